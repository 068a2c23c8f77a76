"""Write docs/hooks.svg and docs/hooks.md from mi_course/interp/hook_map.py: `python scripts/hook_map.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mi_course import show  # noqa: E402
from mi_course.interp.hook_map import HOOKS, NNSIGHT, TRANSFORMERS, map_rows  # noqa: E402

TITLE = "One layer of SmolLM2, in the order of computation"
PAGE = """# The hooks of a layer

<!-- Written by scripts/hook_map.py from mi_course/interp/hook_map.py. Do not edit. -->

Every activation of a layer of SmolLM2-135M, from top to bottom in the order in which it is computed. The blue line is
the residual stream: what *reads* it has an arrow from it, and what is *added* to it has an arrow to it. Names are
within a layer: `attn.hook_q` is
`blocks.5.attn.hook_q` in layer 5. In shapes, b is the batch, p the position, q a query's position and k a key's; 9
heads share 3 keys and values. Lesson 01 uses them all.

<img src="hooks.svg" width="860" alt="{alt}">

## The same hook in other libraries

TransformerLens 2, 3 and 4 share the names of the first column. In 4 a `TransformerBridge` also has names of its own
(second column), of which the familiar ones are aliases; `hook.name` says the bridge's own. `{{l}}` is the number of
the layer; in Hugging Face's column, and in nnsight's, `model.model` is the
`LlamaModel`. Checked with TransformerLens 4.3, transformers {transformers} and nnsight {nnsight}.

{table}

## How each of them is asked

```python
# TransformerLens 4: a bridge. In 2 and 3: HookedTransformer.from_pretrained(...), and the rest is the same.
logits, cache = model.run_with_cache(text)
cache["blocks.5.attn.hook_pattern"], cache["pattern", 5]                      # the same tensor
model.run_with_hooks(text, fwd_hooks=[("blocks.5.attn.hook_z", my_hook)])     # my_hook(z, hook) returns the new z

# Hugging Face: hidden states come for the asking; everything else by a PyTorch hook on a module.
out = model(**inputs, output_hidden_states=True, output_attentions=True)      # attentions: attn_implementation="eager"
handle = model.model.layers[5].self_attn.q_proj.register_forward_hook(lambda module, args, output: kept.append(output))
handle.remove()

# nnsight: inside a trace, modules have .input and .output, in the order in which they run; .save() keeps a value.
with model.trace(text):
    q = model.model.layers[5].self_attn.q_proj.output.save()
```

## What often goes wrong

- `hidden_states[l]` is the stream *before* layer l. The last one, `hidden_states[30]`, is not the stream after layer
  29: it has gone through the final norm.
- Hugging Face's `input_layernorm` gives the normalized stream times the norm's weight; so does the bridge's
  `ln1.hook_out`. TransformerLens's compatibility mode folds that weight into W_Q, W_K and W_V; the heads' queries, keys
  and values are the same either way.
- There is no module for rotated queries and keys, for scores and for the pattern. Attention implementations that never
  make the pattern (SDPA, flash) give none: load the model with `attn_implementation="eager"`.
- Hugging Face keeps heads side by side in one axis: `q.view(*q.shape[:-1], 9, 64)` parts them.
- `hook_z` of a bridge calls itself `blocks.5.attn.o.hook_in`; `hook.layer()` is 5 under either name.
  `model.hook_dict` lists a hook under each of its names.
- `attn.hook_result`, each head's own output, is not kept by default. It is `z @ W_O`, head by head.
"""


def table() -> str:
    lines = ["| TransformerLens | bridge | shape | Hugging Face | nnsight |", "|---|---|---|---|---|"]
    for row in HOOKS:
        bridge = f"`{row.bridge}`" if row.bridge else "the same"
        lines.append(f"| `{row.name}` | {bridge} | `{row.shape}` | {row.hf} | {row.nnsight} |")
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """The files of the docs and what they should hold."""
    picture = show.layer_map(map_rows(), title=TITLE)
    text = PAGE.format(
        alt=picture.alt.replace('"', "&quot;"), table=table(), transformers=TRANSFORMERS, nnsight=NNSIGHT
    )
    return {ROOT / "docs" / "hooks.md": text, ROOT / "docs" / "hooks.svg": picture.svg(themed=True) + "\n"}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
