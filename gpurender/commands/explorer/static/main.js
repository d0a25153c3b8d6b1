// The page: state, controls, panes and sheet put together.

import { Controls, makeControl } from "./controls.js";
import { byId, copy, make, say } from "./dom.js";
import { Pane } from "./pane.js";
import { connection, start } from "./server.js";
import { Sheet } from "./sheet.js";
import { copyOf, emptyPane, emptyState, fromFragment, toFragment } from "./state.js";

const SHEET_AFTER = 250; // milliseconds without a change, after which the sheet follows
const NAMES = ["A", "B"];
const LEFT_OUT = /must be left out/;

connection.addEventListener("said", ({ detail }) => {
  byId("connection").textContent = detail;
  byId("connection").classList.toggle("lost", detail !== "");
});

const known = await start();
let state = fromFragment(location.hash) ?? emptyState(known.first);
const panes = [];
const lastChanged = [null, null];
let sheetTimer, addressTimer;

const active = () => state.panes[state.active];

// ------------------------------------------------------------------------------------------------ the address

function keep() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => history.replaceState(null, "", toFragment(state)), 150);
}

function restore() {
  const found = fromFragment(location.hash);
  if (!found || toFragment(found) === toFragment(state)) return;
  clearTimeout(addressTimer);
  state = found;
  layPanes();
  drawAll();
}
addEventListener("hashchange", restore);
addEventListener("popstate", restore);

// ------------------------------------------------------------------------------------------------ drawing

function draw(i) {
  panes[i].ask(state.panes[i]);
  keep();
}

function drawAll() {
  state.panes.forEach((_, i) => draw(i));
}

function answered(i, data, body) {
  const pane = state.panes[i];
  if (!pane) return;
  if (body.class === pane.class) pane.class = data.class; // the server keeps both in the recipe
  if (body.instance === pane.instance) pane.instance = data.instance;
  keep();
  if (i === state.active) {
    showControls(data);
    controls.refuse(null, null);
    refuseRecipe("");
    followSheet(data, body);
  }
  showDifferences();
}

function refused(i, data) {
  const pane = state.panes[i], name = data.parameter;
  if (!pane) return;
  if (LEFT_OUT.test(data.error) && name in pane.set && name !== lastChanged[i]) {
    delete pane.set[name]; // another parameter's change has made it meaningless
    say(`${name} is left out: ${data.error}`);
    draw(i);
    return;
  }
  if (i !== state.active) return;
  if (!controls.refuse(name, data.error) && !controls.refuse(lastChanged[i], data.error)) refuseRecipe(data.error);
  else refuseRecipe("");
}

function refuseRecipe(text) {
  byId("recipe-error").textContent = text;
  byId("recipe-error").hidden = !text;
}

function followSheet(data, body) {
  clearTimeout(sheetTimer);
  const first = sheet.recipe === null;
  sheetTimer = setTimeout(() => {
    sheet.show(body, data, state.cell);
    if (first && state.row) sheet.scrollTo(state.row);
  }, first ? 0 : SHEET_AFTER);
}

// ------------------------------------------------------------------------------------------------ controls

function change(name, text) {
  const pane = active();
  lastChanged[state.active] = name;
  if (text === null) delete pane.set[name];
  else pane.set[name] = text;
  draw(state.active);
}

const controls = new Controls(byId("parameters"), change);

const places = ["class", "instance"].map(name => {
  const control = makeControl({ name, kind: "integer", low: 0, high: 1, choices: [], help: "" }, (_, text) => {
    const value = text === null ? 0 : Number(text);
    if (Number.isInteger(value) && value >= 0) place({ [name]: value });
  });
  byId("sample").append(control.element);
  return control;
});

// Choose a sample in the active pane, or in both.
function place(where) {
  const chosen = state.same ? state.panes.keys() : [state.active];
  for (const i of chosen) {
    Object.assign(state.panes[i], where);
    draw(i);
  }
}

function showControls(data) {
  const pane = active();
  byId("recipe").value = pane.recipe;
  byId("augment").value = pane.augment ?? "";
  byId("fresh").checked = pane.fresh;
  controls.show(data.parameters, data.values, pane.set);
  const most = { class: data.classes - 1, instance: Math.max(0, data.instances - 1) };
  for (const control of places) {
    control.bound({ ...control.parameter, high: most[control.name] });
    for (const field of control.fields) field.readOnly = most[control.name] === 0;
    for (const slider of control.sliders ?? []) slider.disabled = most[control.name] === 0;
    control.scales = [{ // from end to end
      value: position => position * most[control.name], position: value => value / (most[control.name] || 1),
    }];
    control.show(String(data[control.name]), false);
  }
}

for (const family of known.families) {
  const group = make("optgroup", { label: family.name });
  for (const name of family.presets) group.append(make("option", { value: name }, name));
  group.append(make("option", { value: family.name }, family.presets.length ? `${family.name}, its defaults` : family.name));
  byId("recipe").append(group);
}
byId("augment").append(...known.policies.map(name => make("option", { value: name }, name)));

byId("recipe").addEventListener("change", event => {
  const pane = active();
  history.pushState(null, "", toFragment(state)); // so that the browser's back button undoes it
  state.panes[state.active] = { ...emptyPane(event.target.value), augment: pane.augment, fresh: pane.fresh };
  lastChanged[state.active] = null;
  controls.signature = "";
  draw(state.active);
});
byId("augment").addEventListener("change", event => { active().augment = event.target.value || null; draw(state.active); });
byId("fresh").addEventListener("change", event => { active().fresh = event.target.checked; draw(state.active); });
byId("controls").addEventListener("submit", event => event.preventDefault());
byId("cell").addEventListener("change", event => {
  state.cell = Number(event.target.value);
  keep();
  const { last, lastBody } = panes[state.active];
  if (last) sheet.show(lastBody, last, state.cell);
});

// ------------------------------------------------------------------------------------------------ panes

function layPanes() {
  const two = state.panes.length > 1;
  while (panes.length < state.panes.length) panes.push(newPane(panes.length));
  while (panes.length > state.panes.length) {
    const pane = panes.pop();
    pane.slot.cancel();
    pane.element.remove();
  }
  byId("panes").classList.toggle("two", two);
  byId("compare").setAttribute("aria-pressed", String(two));
  byId("tabs").hidden = !two;
  byId("same").checked = state.same;
  byId("cell").value = String(state.cell);
  difference.hidden = !two;
  byId("panes").append(...panes.map(pane => pane.element), difference);
  markActive();
}

function newPane(i) {
  return new Pane(NAMES[i], {
    answered: (data, body) => answered(i, data, body),
    refused: data => refused(i, data),
    moved: (classes, instances) => {
      const { last } = panes[i];
      if (!last) return;
      choose(i);
      const pane = state.panes[i];
      place({
        class: Math.min(last.classes - 1, Math.max(0, pane.class + classes)),
        instance: Math.min(Math.max(0, last.instances - 1), Math.max(0, pane.instance + instances)),
      });
    },
    chosen: () => choose(i),
  });
}

function markActive() {
  panes.forEach((pane, i) => {
    pane.element.classList.toggle("active", i === state.active);
    byId(`pane-${i}`)?.setAttribute("aria-pressed", String(i === state.active));
  });
}

function choose(i) {
  if (i === state.active || i >= state.panes.length) return;
  state.active = i;
  markActive();
  keep();
  const { last, lastBody } = panes[i];
  if (last) {
    showControls(last);
    controls.refuse(null, null);
    followSheet(last, lastBody);
  }
  draw(i); // its refusal, if there is one, comes back to its control
}

for (const i of [0, 1]) byId(`pane-${i}`).addEventListener("click", () => choose(i));
byId("same").addEventListener("change", event => { state.same = event.target.checked; keep(); });
byId("compare").addEventListener("click", () => {
  history.pushState(null, "", toFragment(state));
  state.panes = state.panes.length > 1 ? [active()] : [active(), copyOf(active())];
  state.active = state.panes.length - 1;
  layPanes();
  drawAll();
});
byId("link").addEventListener("click", event => {
  history.replaceState(null, "", toFragment(state));
  copy(location.href, "Link", event.currentTarget);
});

const difference = make("p", { id: "differences", role: "status", hidden: true });

function showDifferences() {
  if (panes.length < 2 || !panes.every(pane => pane.last)) return;
  const [one, other] = panes.map(pane => pane.last);
  if (one.fingerprint === other.fingerprint) {
    difference.textContent = "A and B are the same dataset.";
    return;
  }
  const names = [...new Set([...Object.keys(one.values), ...Object.keys(other.values)])];
  const rows = names.filter(name => one.values[name] !== other.values[name])
    .map(name => `${name}: ${one.values[name] ?? "–"} → ${other.values[name] ?? "–"}`);
  difference.replaceChildren("A → B: ", make("code", {}, rows.join("; ")));
}

const sheet = new Sheet({
  chosen: (label, instance) => place({ class: label, instance }),
  scrolled: row => { state.row = row; keep(); },
});

connection.addEventListener("back", drawAll);
layPanes();
drawAll();
