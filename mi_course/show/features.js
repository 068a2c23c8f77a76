// A feature page, and with `browse` a browser of all latents, in an anywidget, without network.
//
// Python writes the HTML and escapes every token in it; here are only the controls. Everything is asked for with a
// numbered message, and nothing is state, so that a stored notebook stays small. An answer that comes after a later
// question of the same kind is dropped.

let number = 0;

function asker(model) {
  const waiting = new Map();
  model.on("msg:custom", (message) => {
    const answer = waiting.get(message.id);
    if (!answer) return;
    waiting.delete(message.id);
    answer(message);
  });
  return (what) =>
    new Promise((resolve, reject) => {
      const id = ++number;
      waiting.set(id, (message) => (message.error ? reject(new Error(message.error)) : resolve(message)));
      model.send({ ...what, id });
    });
}

function make(tag, properties = {}, ...children) {
  const { attributes = {}, ...others } = properties;
  const node = Object.assign(document.createElement(tag), others);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const button = (label, title, onclick) => make("button", { type: "button", textContent: label, title, onclick, className: "mi-button", attributes: { "aria-label": title } });

function render({ model, el }) {
  const ask = asker(model);
  const status = make("div", { className: "mi-status", attributes: { role: "status", "aria-live": "polite" } });
  const latest = {};

  // Ask, and hand the answer on unless a later question of this kind has been asked.
  async function request(what, use) {
    const turn = (latest[what.kind ?? what.ask] = (latest[what.kind ?? what.ask] ?? 0) + 1);
    const slow = setTimeout(() => (status.textContent = "Waiting for the kernel …"), 400);
    try {
      const answer = await ask(what);
      if (turn === latest[what.kind ?? what.ask]) {
        status.textContent = answer.say ?? "";
        use(answer);
      }
    } catch (error) {
      if (turn === latest[what.kind ?? what.ask]) {
        status.textContent = error.message;
        status.classList.add("mi-error");
        return;
      }
    } finally {
      clearTimeout(slow);
    }
    status.classList.remove("mi-error");
  }

  function start({ title, caption, alt, browse, can_read, last, orders, list, latent, html, say }) {
    let current = latent;
    el.classList.add("mi-features", "mi-live");
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", alt);
    el.setAttribute("data-lm-suppress-shortcuts", "true"); // or a letter typed here would be a command of JupyterLab's
    const page = make("div", { className: "mi-page", attributes: { role: "region", "aria-label": "Feature page" } });
    page.innerHTML = html;
    status.textContent = say;

    const which = make("input", { type: "number", min: 0, max: last, value: current, className: "mi-number", attributes: { "aria-label": `Latent, 0 to ${last}` } });
    function shown(answer, focus) {
      current = answer.latent;
      which.value = current;
      const inside = page.contains(document.activeElement); // or the focus would be lost with what had it
      page.innerHTML = answer.html;
      if (focus || inside) page.querySelector("[role=heading]")?.focus();
      if (sentence.value.trim() && read.textContent) run();
    }
    const open = (latent, focus = false) => request({ ask: "page", kind: "open", latent }, (answer) => shown(answer, focus));
    const step = (by) => open(Math.min(last, Math.max(0, current + by)));
    which.onchange = () => open(Number.isInteger(which.valueAsNumber) ? which.valueAsNumber : which.value);

    const results = make("div", { className: "mi-results", tabIndex: 0, attributes: { role: "region", "aria-label": "Latents" } });
    results.innerHTML = list;
    const query = make("input", { type: "search", placeholder: "in contexts and promoted tokens", attributes: { "aria-label": "Search in contexts and promoted tokens" } });
    const order = make("select", { attributes: { "aria-label": "Order of the list" } }, ...Object.entries(orders).map(([value, textContent]) => make("option", { value, textContent })));
    let first = 0;
    const more = button("more", "The next latents of the list", () => fill(first + 20));
    function fill(from) {
      request({ ask: "list", kind: "results", order: order.value, first: from }, (answer) => {
        first = from;
        results.innerHTML = answer.html;
        results.scrollTop = 0;
        more.disabled = !answer.more;
      });
    }
    order.onchange = () => fill(0);
    const search = make("form", { className: "mi-bar", attributes: { role: "search" } }, query, make("button", { type: "submit", textContent: "Search", className: "mi-button" }), make("span", { className: "mi-space" }), order, more);
    search.onsubmit = (event) => {
      event.preventDefault();
      if (!query.value.trim()) return fill(0);
      request({ ask: "search", kind: "results", text: query.value }, (answer) => {
        results.innerHTML = answer.html;
        results.scrollTop = 0;
        more.disabled = true;
      });
    };
    const walk = make(
      "div",
      { className: "mi-bar", attributes: { role: "group", "aria-label": "Which latent" } },
      button("◀", "Previous latent (left arrow)", () => step(-1)),
      which,
      button("▶", "Next latent (right arrow)", () => step(1)),
      button("any", "A latent at random", () => request({ ask: "random", kind: "open" }, (answer) => shown(answer))),
    );

    const sentence = make("input", { type: "text", placeholder: "type a sentence, and see where the latent is active", attributes: { "aria-label": "A sentence for the model" } });
    const read = make("div", { className: "mi-read", attributes: { role: "region", "aria-label": "Where it is active in the sentence" } });
    const run = () => request({ ask: "read", text: sentence.value, latent: current }, (answer) => (read.innerHTML = answer.html));
    const live = make("form", { className: "mi-bar" }, sentence, make("button", { type: "submit", textContent: "Run", className: "mi-button" }));
    live.onsubmit = (event) => {
      event.preventDefault();
      run();
    };

    el.addEventListener("click", (event) => {
      const link = event.target.closest?.("[data-latent]");
      if (link) open(Number(link.dataset.latent), true);
    });
    el.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (!browse || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.matches?.("input, select, textarea")) return;
      const action = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "/": () => query.focus() }[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    });

    el.append(make("style", { textContent: STYLE }), make("div", { className: "mi-title", textContent: title }));
    if (browse) el.append(search, results, walk);
    if (can_read) el.append(live, read);
    el.append(status, page);
    if (caption) {
      const below = make("div", { className: "mi-caption" });
      below.innerHTML = caption;
      el.append(below);
    }
  }

  // Without a kernel no answer comes, and the static page stays.
  ask({ ask: "start" }).then(start);
}

export default { render };

const STYLE = "";
