"use strict";
// The board: a snapshot, then changes, by server-sent events. Names and mistakes come from learners' machines, so text
// only ever becomes text. Nothing is loaded from elsewhere.

const lead = document.body.dataset.role === "lead";
const $ = (id) => document.getElementById(id);
const STATES = {
  passed: ["✓", "passed"], wrong: ["≠", "not yet"], crashed: ["!", "crashed"],
  timed_out: ["…", "out of time"], not_attempted: ["○", "not attempted"],
};
const AWAY_S = 300;

const people = new Map(); // id -> row
const cells = new Map(); // id -> Map(exercise -> [status, attempts, hints, revealed, at, mistake])
let exercises = {}, numbers = {}, controls = { messages: [], closed: {}, timer: null, code: "" };
let catalogue = [], known = new Map(), address = "", ahead = 0, opened = null;

const now = () => Date.now() / 1000 + ahead;
const minutes = (since) => Math.max(0, Math.floor((now() - since) / 60));
const short = (id) => id.slice(id.indexOf(".") + 1);
const shownCode = (code) => (code.match(/.{1,4}/g) || []).join("-");

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// `code`, **strong** and *emphasis*, as in the checker's messages.
function prose(text) {
  return text.split("`").flatMap((piece, i) => (i % 2 ? [h("code", null, piece)] :
    piece.split(/\*\*([^*\n]+)\*\*/).flatMap((part, j) => (j % 2 ? [h("strong", null, part)] :
      part.split(/\*([^\s*][^*\n]*)\*/).map((word, k) => (k % 2 ? h("em", null, word) : word))))));
}

// Names break at underscores.
function breakable(name) {
  return name.split(/(?<=_)/).flatMap((piece, i) => (i ? [document.createElement("wbr"), piece] : [piece]));
}

let lastSaid = 0;
function say(text) { // politely, and not more than once in four seconds
  const wait = Math.max(0, lastSaid + 4000 - Date.now());
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { lastSaid = Date.now(); $("said").textContent = text; }, wait);
}

async function act(action, body) {
  const reply = await fetch(`api/lead/${action}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body || {}),
  });
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(answer.error || `The board answered ${reply.status}.`);
  return answer;
}

function tell(error) { setState(error.message, "off"); say(error.message); }
const doing = (action, body) => act(action, body).catch(tell);

// --- Updates ---------------------------------------------------------------------------------------------------------

const due = { cells: [], grid: false, lists: false, exercises: false, controls: false };
let scheduled = false, listsAt = 0;

function take(data, snapshot) {
  ahead = data.now - Date.now() / 1000;
  if (snapshot) { people.clear(); cells.clear(); due.grid = true; }
  for (const row of data.people || []) {
    const before = people.get(row.id);
    if (!before || before.name !== row.name || before.table !== row.table) due.grid = true;
    if (!snapshot && row.hand && !(before && before.hand)) say(`${row.name} has raised a hand`);
    people.set(row.id, row);
    if (!cells.has(row.id)) cells.set(row.id, new Map());
    due.lists = true;
  }
  for (const id of data.gone || []) if (people.delete(id)) { cells.delete(id); due.grid = due.lists = true; }
  for (const [id, exercise, cell] of data.cells || []) {
    const row = cells.get(id);
    if (!row) continue;
    if (!shownColumns.has(exercise) && usedOnly() && !row.has(exercise)) due.grid = true;
    row.set(exercise, cell);
    due.cells.push([id, exercise]);
  }
  if (data.exercises) { exercises = data.exercises; due.exercises = true; }
  if (data.class) { numbers = data.class; due.exercises = true; }
  if (data.controls) { controls = data.controls; due.controls = true; }
  schedule();
}

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; render(); });
}

// One part in a frame, so that none of them holds the page up. Returns whether more is due.
function render() {
  const early = 1000 - (Date.now() - listsAt);
  if (lead && due.grid) { due.grid = false; due.cells = []; buildGrid(); }
  else if (lead && due.cells.length) { for (const [id, exercise] of due.cells.splice(0)) drawCell(id, exercise); }
  else if (due.controls) { due.controls = false; drawControls(); }
  else if (due.exercises) { due.exercises = false; drawExercises(); }
  else if (lead && due.lists && early <= 100) { due.lists = false; listsAt = Date.now(); drawLists(); }
  const more = due.controls || due.exercises || (lead && (due.grid || due.cells.length > 0 || (due.lists && early <= 100)));
  if (more) schedule();
  else if (lead && due.lists) setTimeout(schedule, early);
  return more;
}

// --- Learners and exercises ------------------------------------------------------------------------------------------

let shownColumns = new Map(), rows = new Map(), order = [];
const usedOnly = () => lead && $("lesson-filter").value === "used";
const inGroup = (person) => !$("table-filter").value || person.table === $("table-filter").value;
const isAway = (person) => now() - person.seen > AWAY_S;

function columns() {
  const used = new Set();
  for (const row of cells.values()) for (const exercise of row.keys()) used.add(exercise);
  const filter = $("lesson-filter").value;
  const usedLessons = new Set([...used].map((id) => id.split(".")[0]));
  const groups = [];
  for (const lesson of catalogue) {
    if (filter === "used" ? !usedLessons.has(lesson.id) : filter && filter !== lesson.id) continue;
    groups.push([lesson.title, lesson.exercises.map((exercise) => exercise.id)]);
  }
  const unknown = [...used].filter((id) => !known.has(id)).sort();
  if (unknown.length && (filter === "used" || !filter)) groups.push(["not in this course", unknown]);
  return groups;
}

function buildGrid() {
  const groups = columns();
  shownColumns = new Map();
  const top = h("tr", { role: "row" }, h("td", { role: "cell", class: "corner" }));
  const second = h("tr", { role: "row" }, h("th", { role: "columnheader", scope: "col", class: "name" }, "learner"));
  for (const [title, ids] of groups) {
    const over = h("th", { role: "columnheader", scope: "colgroup", colspan: ids.length, "aria-colspan": ids.length, class: "lesson", title }, title);
    over.style.width = `${39 * ids.length - 1}px`;
    top.append(over);
    for (const id of ids) {
      shownColumns.set(id, shownColumns.size + 1);
      second.append(h("th", { role: "columnheader", scope: "col", class: "exercise", title: id }, h("span", null, short(id))));
    }
  }
  $("grid").tHead.replaceChildren(top, second);
  const blank = h("tr", { role: "row" }, h("th", { role: "rowheader", scope: "row", class: "name" }));
  for (let i = 0; i < shownColumns.size; i++) blank.append(h("td", { role: "cell" }));
  rows = new Map();
  order = sorted();
  const body = document.createDocumentFragment();
  for (const id of order) {
    const person = people.get(id), row = blank.cloneNode(true);
    row.firstChild.append(h("button", { type: "button", class: "who", onclick: () => openPerson(id) }, person.name));
    if (person.table) row.firstChild.append(h("span", { class: "soft" }, ` ${person.table}`));
    rows.set(id, row);
    body.append(row);
    for (const exercise of cells.get(id).keys()) drawCell(id, exercise);
  }
  $("grid").tBodies[0].replaceChildren(body);
  drawGroups();
}

function sorted() {
  return [...people.values()].filter(inGroup)
    .sort((a, b) => isAway(a) - isAway(b) || a.progress - b.progress || a.name.localeCompare(b.name)).map((p) => p.id);
}

function drawCell(id, exercise) {
  const row = rows.get(id), column = shownColumns.get(exercise), data = cells.get(id)?.get(exercise);
  if (!row || !column || !data) return;
  const [status, attempts, hints, revealed, at, mistake] = data, td = row.cells[column];
  const [mark, word] = STATES[status] || STATES.not_attempted;
  const here = people.get(id)?.exercise === exercise && status !== "passed";
  const text = `${mark}${hints ? "·" : ""}${here ? minutes(at) : ""}`;
  if (td.textContent !== text) td.textContent = text;
  const kind = `s-${STATES[status] ? status : "not_attempted"}${here ? " here" : ""}`;
  if (td.className !== kind) td.className = kind;
  td.setAttribute("aria-label", `${word}${attempts ? `, attempt ${attempts}` : ""}${hints ? `, hint ${hints}` : ""}` +
    `${revealed ? ", solution seen" : ""}${mistake ? `, ${mistake}` : ""}${here ? `, ${minutes(at)} minutes ago` : ""}`);
}

function reorder() { // only while nobody works in the table
  if (!lead || $("grid").contains(document.activeElement)) return;
  const wanted = sorted();
  if (wanted.length !== order.length) { due.grid = true; schedule(); return; }
  const body = $("grid").tBodies[0];
  let moved = 0;
  for (let i = 0; i < wanted.length && moved < 40; i++) { // the rest next time
    const row = rows.get(wanted[i]);
    if (row && body.rows[i] !== row) { body.insertBefore(row, body.rows[i] || null); moved++; }
  }
  order = wanted;
}

function drawGroups() {
  const tables = [...new Set([...people.values()].map((person) => person.table).filter(Boolean))].sort();
  fill($("table-filter"), [["", "everyone"], ...tables.map((table) => [table, table])]);
}

function fill(select, options) {
  const chosen = select.value;
  const texts = options.map((pair) => pair.join("\n")).join("\n");
  if (select.dataset.filled === texts) return;
  select.dataset.filled = texts;
  select.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  select.value = options.some(([value]) => value === chosen) ? chosen : options[0][0];
}

// --- Lists -----------------------------------------------------------------------------------------------------------

const nobody = (text) => h("li", { class: "soft none" }, text);

// Lists are drawn anew every second. Whoever has the focus on a button in one keeps it.
function refill(list, items) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...items);
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function who(person) {
  return h("button", { type: "button", class: "who", "data-key": `who ${person.id}`, onclick: () => openPerson(person.id) }, person.name);
}

function drawLists() {
  const everyone = [...people.values()].filter(inGroup);
  const hands = everyone.filter((person) => person.hand).sort((a, b) => a.hand.at - b.hand.at);
  $("n-hands").textContent = hands.length || "";
  refill($("hands"), hands.length ? hands.map((person) => h("li", null,
    who(person), h("span", { class: "soft" }, ` ${person.hand.exercise ? short(person.hand.exercise) : ""} · ${minutes(person.hand.at)} min `),
    person.hand.lead ? h("span", null, `${person.hand.lead} is going `) :
      h("button", { type: "button", "data-key": `take ${person.id}`, onclick: () => doing("hand_take", { participant: person.id }) }, "I go"),
    h("button", { type: "button", "data-key": `done ${person.id}`, onclick: () => doing("hand_down", { participant: person.id }) }, "Done"),
  )) : [nobody("No hand is up.")]);
  const stuck = everyone.filter((person) => !isAway(person) && person.exercise && minutes(person.progress) >= 1)
    .sort((a, b) => a.progress - b.progress).slice(0, 10);
  refill($("stuck"), stuck.length ? stuck.map((person) => h("li", null,
    h("span", { class: "age" }, `${minutes(person.progress)} min`), " ", who(person), h("span", { class: "soft" }, ` ${short(person.exercise)} `),
    person.mistake ? h("strong", { class: "mistake" }, person.mistake) :
      h("span", { class: "soft" }, person.status && person.status !== "passed" ? STATES[person.status]?.[1] || "" : ""),
  )) : [nobody("Everyone is moving.")]);
  for (const person of everyone) if (person.exercise) drawCell(person.id, person.exercise);
}

function drawExercises() {
  const away = (numbers.joined || 0) - (numbers.here || 0);
  $("numbers").textContent = `${numbers.joined || 0} joined${away ? `, ${away} away` : ""}${numbers.hands ? ` · ${numbers.hands} hands up` : ""}`;
  const order = new Map([...known.keys()].map((id, i) => [id, i]));
  const ids = Object.keys(exercises).sort((a, b) => (order.get(a) ?? 1e9) - (order.get(b) ?? 1e9) || a.localeCompare(b));
  const most = ids.reduce((best, id) => (exercises[id].on > (best ? exercises[best].on : 0) ? id : best), null);
  $("most").textContent = most ? `Most are on ${short(most)}: ${exercises[most].on}.` : "Nobody has checked an exercise yet.";
  if (lead) {
    $("exercises").tBodies[0].replaceChildren(...ids.map((id) => {
      const row = exercises[id], stated = known.get(id)?.minutes, over = stated && row.minutes > stated;
      return h("tr", { class: id === most ? "most" : "" },
        h("th", { scope: "row", title: id }, ...breakable(short(id))), h("td", { class: "n" }, `${row.on || ""}`),
        h("td", { class: "n" }, `${row.passed} of ${row.tried}`),
        h("td", { class: over ? "n over" : "n" }, `${row.minutes ?? "–"} of ${stated ?? "?"}${over ? " ▲" : ""}`));
    }));
    $("ready").textContent = numbers.examined ? `${numbers.ready} of ${numbers.examined} laptops that reported are ready (doctor --offline).` : "No laptop has reported whether it is ready.";
  } else {
    const wanted = ids.slice().sort((a, b) => exercises[b].on - exercises[a].on).slice(0, 9).sort((a, b) => ids.indexOf(a) - ids.indexOf(b));
    $("bars").replaceChildren(...wanted.map((id) => {
      const row = exercises[id], bar = h("span", { class: "fill" });
      bar.style.width = `${Math.round((100 * row.passed) / Math.max(1, numbers.joined))}%`;
      return h("li", { class: id === most ? "most" : "" }, h("span", { class: "label" }, short(id)),
        h("span", { class: "track", "aria-hidden": "true" }, bar),
        h("span", { class: "soft" }, `${row.passed} passed${row.on ? `, ${row.on} on it` : ""}`));
    }));
  }
  const mistakes = ids.flatMap((id) => exercises[id].mistakes.map(([name, count]) => [count, id, name]))
    .sort((a, b) => b[0] - a[0] || a[1].localeCompare(b[1])).slice(0, lead ? 8 : 4);
  refill($("mistakes"), mistakes.length ? mistakes.map(([count, id, name]) => {
    const message = known.get(id)?.mistakes[name] || "This installation has no message for it.";
    return h("li", null, h("span", { class: "count" }, `${count}×`), " ", h("strong", { class: "mistake" }, name),
      h("span", { class: "soft" }, ` ${short(id)}`), h("p", null, ...prose(message)),
      lead ? h("button", { type: "button", class: "small", "data-key": `say ${id} ${name}`, "aria-label": `Send as message: ${name}`, onclick: () => prefill(id, message) }, "Send as message") : null);
  }) : [nobody(lead ? "The checker has named no mistake yet." : "None so far.")]);
}

function prefill(exercise, text) {
  const form = $("f-message");
  form.elements.text.value = text.slice(0, 500);
  form.elements.exercise.value = exercise;
  form.scrollIntoView({ block: "center" });
  form.elements.text.focus();
}

// --- Controls --------------------------------------------------------------------------------------------------------

function drawControls() {
  document.title = `${controls.title} · workshop`;
  $("title").textContent = controls.title + (controls.ended ? " (ended)" : "");
  const code = shownCode(controls.code);
  if (lead) $("code").textContent = code;
  $("code-big").textContent = code;
  $("code-cell").replaceChildren(h("code", null, `mi_course.join("${code}@${address.replace(/^http:\/\//, "")}")`));
  const qr = $("qr"), wanted = `api/qr.svg?${controls.code.slice(0, 2)}${controls.code.length}${drawControls.turn ?? 0}`;
  if (drawControls.code !== controls.code) {
    drawControls.code = controls.code;
    drawControls.turn = (drawControls.turn ?? 0) + 1;
    qr.src = wanted;
  }
  const messages = controls.messages.filter((message) => message.until === null || message.until > now());
  $("messages").replaceChildren(...messages.map((message) => h("li", null, message.text,
    message.exercise ? h("span", { class: "soft" }, ` (${short(message.exercise)})`) : null, " ",
    lead ? h("button", { type: "button", class: "small", "aria-label": `Take down: ${message.text.slice(0, 40)}`, onclick: () => doing("message_down", { id: message.id }) }, "Take down") : null)));
  if (!lead) { $("panel-messages").hidden = !messages.length; drawTimer(); return; }
  const closed = Object.entries(controls.closed).filter(([, until]) => until === null || until > now());
  $("closed").replaceChildren(...closed.map(([what, until]) => h("li", null, nameOf(what),
    until === null ? " until you open it " : ` until ${new Date(1000 * until).toTimeString().slice(0, 5)} `,
    h("button", { type: "button", class: "small", "aria-label": `Open ${nameOf(what)}`, onclick: () => doing("open", { what }) }, "Open"))));
  drawTimer();
}

function nameOf(what) {
  const [kind, id] = what.split(":"), title = catalogue.find((lesson) => lesson.id === id)?.title || id;
  return kind === "lesson" ? `lesson: ${title}` : id === "*" ? "all solutions" : `solutions: ${title}`;
}

function drawTimer() {
  const timer = controls.timer, left = timer ? Math.round(timer.ends - now()) : 0;
  $("timer").hidden = !timer || left < -120;
  if (!timer) return;
  const text = left <= 0 ? "time is up" : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  $("timer").textContent = `${timer.label ? `${timer.label} ` : ""}${text}`;
  $("timer").className = left < 60 ? "late" : "";
  if (left === 0) say("Time is up");
}

function openPerson(id) {
  const person = people.get(id);
  if (!person) return;
  opened = id;
  $("person-title").textContent = person.name;
  const message = person.mistake && known.get(person.exercise)?.mistakes[person.mistake];
  $("person-body").replaceChildren(
    h("p", null, person.exercise ? `On ${person.exercise}: ${STATES[person.status]?.[1] || ""}, ${person.attempts} attempts. ` : "Has checked nothing yet. ",
      `${person.passed} passed, ${minutes(person.progress)} minutes without progress${isAway(person) ? ", away" : ""}.`),
    person.mistake ? h("p", null, h("strong", null, person.mistake), ": ", ...prose(message || "")) : "",
    person.ready ? h("p", null, person.ready.length ? `Laptop: ${person.ready.join(", ")} missing.` : "Laptop: ready.") : "");
  $("f-rename").elements.name.value = person.name;
  $("f-rename").elements.table.value = person.table;
  $("person-said").textContent = "";
  $("person").showModal();
}

function setState(text, kind) {
  const state = $("state");
  if (state.textContent !== text) state.textContent = text;
  state.className = kind;
}

function wireLead() {
  const onSubmit = (id, handler) => $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    handler(event.target.elements, event.target).catch(tell);
  });
  onSubmit("f-message", async (fields, form) => {
    await act("message", { text: fields.text.value, exercise: fields.exercise.value || null, minutes: fields.minutes.value ? Number(fields.minutes.value) : null });
    form.reset(); say("Message posted");
  });
  onSubmit("f-close", async (fields) => {
    let until = null;
    if (fields.until.value) {
      const [hour, minute] = fields.until.value.split(":").map(Number), at = new Date();
      at.setHours(hour, minute, 0, 0);
      if (at < new Date()) at.setDate(at.getDate() + 1);
      until = at.toISOString();
    }
    await act("close", { what: fields.what.value, until }); say("Closed");
  });
  onSubmit("f-timer", (fields) => act("timer", { minutes: Number(fields.minutes.value), label: fields.label.value }));
  $("timer-stop").addEventListener("click", () => doing("timer", {}));
  onSubmit("f-invite", async (fields) => { $("link").textContent = (await act("invite", { name: fields.name.value })).link + "  (works once)"; });
  $("projector-link").addEventListener("click", () => act("projector").then((answer) => { $("link").textContent = answer.link; }).catch(tell));
  $("rotate").addEventListener("click", () => confirm("The old code stops working. Those who have joined stay.") && doing("code"));
  $("end").addEventListener("click", () => confirm("Learners' notebooks stop reporting. The summary stays.") && doing("end"));
  $("show-code").addEventListener("click", () => $("code-dialog").showModal());
  onSubmit("f-rename", async (fields) => {
    await act("rename", { participant: opened, name: fields.name.value, table: fields.table.value });
    $("person").close();
  });
  $("person-key").addEventListener("click", () => act("return_key", { participant: opened })
    .then((answer) => { $("person-said").textContent = `mi_course.join("CODE@ADDRESS", name=${JSON.stringify(answer.name)}, return_key="${answer.return_key}")`; }).catch(tell));
  const ending = (action, question) => () => confirm(question) && act(action, { participant: opened }).then(() => $("person").close()).catch(tell);
  $("person-remove").addEventListener("click", ending("remove", "Remove them from the board? They can join again."));
  $("person-forget").addEventListener("click", ending("forget", "Delete everything that is stored of them? This cannot be undone."));
  $("lesson-filter").addEventListener("change", () => { due.grid = true; schedule(); });
  $("table-filter").addEventListener("change", () => { due.grid = due.lists = true; listsAt = 0; schedule(); });
  $("grid").addEventListener("pointerover", (event) => { // a tooltip only where it is asked for
    const td = event.target.closest("td[aria-label]");
    if (td) td.title = td.getAttribute("aria-label");
  });
  setInterval(reorder, 5000);
}

function wireTheme() {
  const themes = ["auto", "light", "dark"];
  let theme = "auto";
  try { theme = localStorage.getItem("mi-theme") || "auto"; } catch { /* no storage: the system's theme */ }
  const use = () => { document.documentElement.dataset.theme = theme; $("theme").textContent = `Theme: ${theme}`; };
  $("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % 3];
    try { localStorage.setItem("mi-theme", theme); } catch { /* for this page only */ }
    use();
  });
  use();
}

function connect() {
  const source = new EventSource(lead ? "api/board" : "api/projector");
  let heard = false;
  source.addEventListener("open", () => setState("live", "on"));
  source.addEventListener("snapshot", (event) => { heard = true; setState("live", "on"); take(JSON.parse(event.data), true); });
  source.addEventListener("changes", (event) => { setState("live", "on"); take(JSON.parse(event.data), false); });
  source.addEventListener("error", () => {
    setState("connection lost, trying again", "off");
    // A browser gives up after an error page, such as a proxy's while the server starts again.
    if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(connect, 2000); }
    else if (!heard) setState("connecting", "off");
  });
}

async function begin() {
  wireTheme();
  if (lead) wireLead();
  for (;;) {
    try {
      const [me, course] = await Promise.all(["api/whoami", "api/catalogue"].map(async (path) => {
        const reply = await fetch(path);
        if (!reply.ok) throw new Error((await reply.json()).error);
        return reply.json();
      }));
      address = me.address;
      catalogue = course;
      break;
    } catch (error) {
      setState(error.message, "off");
      await new Promise((resume) => setTimeout(resume, 2000));
    }
  }
  known = new Map(catalogue.flatMap((lesson) => lesson.exercises.map((exercise) => [exercise.id, exercise])));
  if (lead) {
    fill($("lesson-filter"), [["used", "in use"], ["", "all"], ...catalogue.map((lesson) => [lesson.id, lesson.title])]);
    fill($("f-message").elements.exercise, [["", "everyone"], ...[...known.keys()].map((id) => [id, `on ${id}`])]);
    fill($("f-close").elements.what, [["reveals:*", "all solutions"],
      ...catalogue.flatMap((lesson) => ["reveals", "lesson"].map((kind) => [`${kind}:${lesson.id}`, nameOf(`${kind}:${lesson.id}`)]))]);
  }
  setInterval(() => { drawTimer(); if (lead) { due.lists = true; schedule(); } }, 1000);
  setInterval(() => { due.controls = true; schedule(); }, 30000);
  connect();
}
begin();
