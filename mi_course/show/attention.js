// Draws CircuitsVis' attention view in an anywidget, without network.
//
// The 1.3 MB script and the patterns come as custom messages when a view opens, never as state: a notebook that stores
// widget state (nbclient does) stays small. The script is asked for once per page.

const KEY = "__mi_course_circuitsvis__";

function ask(model, what) {
  return new Promise((resolve, reject) => {
    // A kernel that is busy, training say, answers when it is done. Until then the static picture stands.
    const give_up = setTimeout(() => finish(reject, new Error("the kernel did not answer within an hour")), 3600e3);
    const listen = (message, buffers) => {
      if (message.kind === what) finish(resolve, { message, buffers });
    };
    function finish(how, value) {
      clearTimeout(give_up);
      model.off("msg:custom", listen);
      how(value);
    }
    model.on("msg:custom", listen);
    model.send({ ask: what });
  });
}

async function fetch_script(model) {
  const { buffers } = await ask(model, "script");
  const address = URL.createObjectURL(new Blob([buffers[0], "\nexport default CircuitsVis;"], { type: "text/javascript" }));
  try {
    return (await import(address)).default;
  } finally {
    URL.revokeObjectURL(address);
  }
}

function script(model) {
  globalThis[KEY] ??= fetch_script(model).catch((error) => {
    delete globalThis[KEY];
    throw error;
  });
  return globalThis[KEY];
}

function patterns({ message, buffers }) {
  const { heads, size } = message;
  const view = buffers[0];
  const flat = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const values = new Float32Array(flat.slice().buffer);
  return heads.map((_, h) =>
    Array.from({ length: size }, (_, q) =>
      // Four decimals: the hover text prints what it is given.
      Array.from(values.subarray((h * size + q) * size, (h * size + q + 1) * size), (v) => Math.round(v * 1e4) / 1e4),
    ),
  );
}

export default {
  async render({ model, el }) {
    const [answer, circuitsvis] = await Promise.all([ask(model, "patterns"), script(model)]);
    const { title, caption, alt, heads, tokens, causal, top, width } = answer.message;
    while (!el.isConnected) await new Promise(requestAnimationFrame); // CircuitsVis finds its place by id, in the page
    el.classList.add("mi-live", "mi-attention");
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", alt);
    el.style.maxWidth = `${width}px`;
    const style = document.createElement("style");
    style.textContent = STYLE;
    const heading = Object.assign(document.createElement("div"), { className: "mi-title", textContent: title });
    const view = Object.assign(document.createElement("div"), { className: "mi-view", id: `mi-attention-${Math.random().toString(36).slice(2)}` });
    const below = Object.assign(document.createElement("div"), { className: "mi-caption", textContent: caption });
    el.append(style, heading, view, below);
    circuitsvis.render(view.id, circuitsvis.AttentionHeads, {
      attention: patterns(answer),
      attentionHeadNames: heads,
      tokens,
      maskUpperTri: causal,
      minValue: -top,
      maxValue: top,
    });
  },
};

const STYLE = "";
