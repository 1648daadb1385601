"use strict";

// The predictions' table. All text from the data goes through textContent, never through markup.
const data = JSON.parse(document.getElementById("data").textContent);
const controls = Object.fromEntries(
  ["run", "q", "label", "predicted", "verdict", "part", "order"]
    .map((id) => [id, document.getElementById(id)])
    .filter(([, control]) => control),  // "part" is there where not all rows are
);
const body = document.getElementById("rows");
const more = document.getElementById("more");
const count = document.getElementById("count");
const MARK = "#predictions?";  // begins a fragment that holds a view
const STEP = 100;  // rows drawn at a time
const INVALID = -1;
const FOLDED = 1000;  // letters of a longer comment that show before it is unfolded

const number = (value) => value.toLocaleString("en-US");
const chosenRun = () => data.runs.find((run) => run.run === controls.run.value);
const className = (k) => (k === INVALID ? "invalid" : data.classes[k]);
let found = [];  // the rows that match
let total = 0;  // the rows of the run
let drawn = 0;
const sample = new Set(data.sample);
let searchable;  // the rows in lower case, made at the first search

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function fillControls() {
  data.runs.forEach((run) => controls.run.append(element("option", run.title, { value: run.run })));
  data.classes.forEach((name, k) => {
    controls.label.append(element("option", name, { value: k }));
    controls.predicted.append(element("option", name, { value: k }));
  });
  controls.run.value = data.best;
  controls.predicted.append(element("option", "invalid", { value: INVALID }));
  if (data.rows.some((row) => row[2] < 0)) {
    controls.label.append(element("option", "no label", { value: -1 }));
  }
}

function verdict(label, predicted) {
  if (label < 0) return "unscored";
  return label === predicted ? "right" : "wrong";
}

function differ(place) {
  return new Set(data.runs.map((run) => run.predicted[place]).filter((k) => k !== null)).size > 1;
}

function inPart(place) {
  const part = controls.part?.value;
  if (part === "sample") return sample.has(place);
  return part !== "differ" || differ(place);
}

function select() {
  const run = chosenRun();
  const words = controls.q.value.trim().toLowerCase();
  if (words && !searchable) {
    searchable = data.rows.map(([id, message]) => `${id}\n${message}`.toLowerCase());
  }
  const wanted = (control, value) => control.value === "" || control.value === String(value);
  total = 0;
  found = [];
  data.rows.forEach(([, , label], place) => {
    const predicted = run.predicted[place];
    if (predicted === null) return;
    total += 1;
    if (
      wanted(controls.label, label) &&
      wanted(controls.predicted, predicted) &&
      wanted(controls.verdict, verdict(label, predicted)) &&
      inPart(place) &&
      (!words || searchable[place].includes(words))
    ) {
      found.push(place);
    }
  });
  if (controls.order.value) {
    const sign = controls.order.value === "highest" ? -1 : 1;
    // Rows without a confidence come last, either way.
    const sure = (place) => (run.confidence[place] === null ? Infinity : sign * run.confidence[place]);
    found.sort((a, b) => (sure(a) === sure(b) ? a - b : sure(a) - sure(b)));
  }
  body.replaceChildren();
  drawn = 0;
  draw();
  showCount();
  document.getElementById("against").textContent = run.against;
}

// A comment on its own ground: its direction and its marks stay within the cell.
function comment(place) {
  const message = data.rows[place][1];
  const letters = Array.from(message.length > FOLDED ? message : "");
  const cut = data.lengths[place];
  const all = cut ?? letters.length;
  const cell = element("td", "", { class: "text", role: "cell" });
  const text = element("div", message, { class: "comment", dir: "auto", lang: "" });
  cell.append(text);
  if (letters.length > FOLDED) {
    text.textContent = `${letters.slice(0, FOLDED).join("")}…`;
    const kept = cut ? `the first ${number(letters.length)} of ` : "all ";
    const unfold = element("button", `Show ${kept}${number(all)} letters`, { type: "button" });
    unfold.addEventListener("click", () => {
      text.textContent = cut ? `${message}… [the rest stands in predictions.csv]` : message;
      unfold.remove();
      text.tabIndex = -1;
      text.focus();
    });
    cell.append(unfold);
  }
  return cell;
}

function draw() {
  const run = chosenRun();
  const human = new Set(run.human);
  const fragment = document.createDocumentFragment();
  for (const place of found.slice(drawn, drawn + STEP)) {
    const [id, , label] = data.rows[place];
    const predicted = run.predicted[place];
    const sure = run.confidence[place];
    const outcome = verdict(label, predicted);
    const given = element("td", label < 0 ? "–" : className(label), { role: "cell", "data-name": "label" });
    if (human.has(place)) given.append(element("small", "by people"));
    const row = element("tr", "", { role: "row" });
    const guess = element("td", className(predicted), { role: "cell", "data-name": "predicted" });
    if (run.replies[place]) guess.append(element("small", run.replies[place], { dir: "auto" }));
    row.append(
      element("th", id, { scope: "row", role: "rowheader", dir: "auto" }),
      comment(place),
      given,
      guess,
      element("td", { right: "✓ right", wrong: "✗ wrong", unscored: "–" }[outcome], {
        class: `verdict ${outcome}`,
        role: "cell",
      }),
      element("td", sure === null ? "–" : `${(sure / 100).toFixed(1)}%`, {
        class: "number",
        role: "cell",
        "data-name": "confidence",
      }),
    );
    fragment.append(row);
  }
  body.append(fragment);
  drawn = Math.min(drawn + STEP, found.length);
  more.hidden = drawn >= found.length;
  more.textContent = `Show ${number(Math.min(STEP, found.length - drawn))} more`;
}

function countInAll() {
  const counts = chosenRun().counts;
  const wanted = (control, value) => control.value === "" || control.value === String(value);
  let all = 0;
  counts.forEach((row, k) => row.forEach((rows, guess) => {
    const [label, predicted] = [k - 1, guess - 1];
    if (
      wanted(controls.label, label) &&
      wanted(controls.predicted, predicted) &&
      wanted(controls.verdict, verdict(label, predicted))
    ) all += rows;
  }));
  return all;
}

function showCount() {
  const part = drawn < found.length ? `; the first ${number(drawn)} are shown` : "";
  if (!data.sampled) {
    count.textContent = `${number(found.length)} of ${number(total)} rows${part}`;
    return;
  }
  const rows = chosenRun().counts.flat().reduce((sum, cell) => sum + cell, 0);
  const unknown = controls.q.value.trim() || controls.part.value;
  const inAll = unknown
    ? `These are not counted among all ${number(rows)} rows.`
    : `Among all ${number(rows)} rows there are ${number(countInAll())} such.`;
  count.textContent = `${number(found.length)} of the ${number(total)} rows on this page${part}. ${inAll}`;
}

function keepInFragment() {
  const view = new URLSearchParams();
  for (const [id, control] of Object.entries(controls)) {
    if (control.value !== "") view.set(id, control.value);
  }
  history.replaceState(null, "", MARK + view);
}

function readFragment() {
  if (!location.hash.startsWith(MARK)) return false;
  const view = new URLSearchParams(location.hash.slice(MARK.length));
  for (const [id, control] of Object.entries(controls)) {
    control.value = view.get(id) ?? "";
    if (control.selectedIndex === -1) control.value = control === controls.run ? data.best : "";
  }
  return true;
}

fillControls();
if (data.runs.length) {
  document.getElementById("browser").hidden = false;
  let waiting;
  for (const control of Object.values(controls)) {
    const typed = control === controls.q;
    control.addEventListener(typed ? "input" : "change", () => {
      clearTimeout(waiting);
      // A pause in typing: browsers refuse hundreds of changes of the address in a row.
      waiting = setTimeout(() => { select(); keepInFragment(); }, typed ? 150 : 0);
    });
  }
  more.addEventListener("click", () => {
    const first = drawn;
    draw();
    showCount();
    if (more.hidden) {  // the button that had the focus is gone
      body.rows[first].cells[0].tabIndex = -1;
      body.rows[first].cells[0].focus();
    }
  });
  addEventListener("hashchange", () => { if (readFragment()) select(); });
  const given = readFragment();
  select();
  if (given) document.getElementById("predictions").scrollIntoView();
}

addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not([open])").forEach((one) => {
    one.open = true;
    addEventListener("afterprint", () => { one.open = false; }, { once: true });
  });
});
