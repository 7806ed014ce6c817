// Building and changing the page.
//
// Owns: elements from plain values, and changing what is shown into what should be shown without losing focus or
// scroll. Does not own: what is shown.
// Rule: text is set as text and nothing else. Names of jobs, shards and keys come from strangers.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "rect", "path", "line", "text", "circle", "polyline", "title", "polygon"]);

/** An element: `h("p", { class: "x" }, "text", child, …)`. Nothing, null and false are left out. */
export function h(tag, attributes, ...children) {
  const inSvg = SVG_TAGS.has(tag) && tag !== "title";
  const element = inSvg || attributes?.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "svg" || value === undefined || value === null || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** A tooltip inside of SVG. */
export const hint = (text) => h("title", { svg: true }, text);

function append(element, children) {
  for (const child of children) {
    if (child === undefined || child === null || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Makes the children of `old` like `wanted`, keeping every element that can stay. */
export function show(old, ...wanted) {
  const holder = document.createDocumentFragment();
  append(holder, wanted);
  patchChildren(old, holder);
}

function patchChildren(old, wanted) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const next of [...wanted.childNodes]) {
    const key = next.dataset?.key;
    const known = key === undefined ? undefined : keyed.get(key);
    if (known && known !== at && alike(known, next)) {
      old.insertBefore(known, at);
      at = known;
    }
    if (at && alike(at, next)) {
      patch(at, next);
      at = at.nextSibling;
    } else {
      old.insertBefore(next, at);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

const alike = (a, b) =>
  a.nodeType === b.nodeType && a.nodeName === b.nodeName && a.dataset?.key === b.dataset?.key;

function patch(old, wanted) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  const mine = old.nodeName === "DETAILS" ? ["open"] : [];
  for (const { name } of [...old.attributes]) {
    // What the reader opened stays open.
    if (!wanted.hasAttribute(name) && !mine.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  patchChildren(old, wanted);
}
