// The state of the page, and the same as the part of its address after "#": a reload or a copied link gives the same
// view. A pane is {recipe, set, class, instance, augment, fresh}; `set` has texts of JSON, as `gpurender recipe --set`.

export const MOST_PANES = 2;

export function emptyPane(recipe, set = {}) {
  return { recipe, set: { ...set }, class: 0, instance: 0, augment: null, fresh: false };
}

export function emptyState(first) {
  return { panes: [emptyPane(first.recipe, first.set)], active: 0, same: true, row: 0, cell: 96 };
}

export function copyOf(pane) {
  return { ...pane, set: { ...pane.set } };
}

// Percent-encoding that leaves readable what an address may hold after "#".
const encoded = text =>
  encodeURIComponent(text).replace(/%(?:5B|5D|2C|3A)/g, decodeURIComponent).replace(/%20/g, "+");

function written(pane, prefix) {
  const words = [`${prefix}recipe=${encoded(pane.recipe)}`];
  for (const [name, text] of Object.entries(pane.set)) words.push(`${prefix}set.${encoded(name)}=${encoded(text)}`);
  for (const name of ["class", "instance"]) if (pane[name]) words.push(`${prefix}${name}=${pane[name]}`);
  if (pane.augment) words.push(`${prefix}augment=${encoded(pane.augment)}`);
  if (pane.fresh) words.push(`${prefix}fresh=1`);
  return words;
}

export function toFragment(state) {
  const words = written(state.panes[0], "");
  if (state.panes.length > 1) {
    words.push(...written(state.panes[1], "b."));
    if (state.active) words.push("pane=b");
    if (!state.same) words.push("same=0");
  }
  if (state.row) words.push(`row=${state.row}`);
  if (state.cell !== 96) words.push(`cell=${state.cell}`);
  return "#" + words.join("&");
}

const count = text => (/^\d{1,15}$/.test(text ?? "") ? Number(text) : 0);

function read(words, prefix) {
  const recipe = words.get(`${prefix}recipe`);
  if (!recipe) return null;
  const pane = emptyPane(recipe);
  for (const [name, text] of words) {
    if (name.startsWith(`${prefix}set.`)) pane.set[name.slice(prefix.length + 4)] = text;
  }
  pane.class = count(words.get(`${prefix}class`));
  pane.instance = count(words.get(`${prefix}instance`));
  pane.augment = words.get(`${prefix}augment`) || null;
  pane.fresh = words.get(`${prefix}fresh`) === "1";
  return pane;
}

// The state of an address, or null where it names no recipe.
export function fromFragment(fragment) {
  const words = new URLSearchParams(fragment.replace(/^#/, ""));
  const first = read(words, "");
  if (!first) return null;
  const second = read(words, "b.");
  const cell = count(words.get("cell"));
  return {
    panes: second ? [first, second] : [first],
    active: second && words.get("pane") === "b" ? 1 : 0,
    same: words.get("same") !== "0",
    row: count(words.get("row")),
    cell: [64, 96, 144].includes(cell) ? cell : 96,
  };
}
