/** Making and reading elements. Text goes in as text: nothing from the server is ever parsed as HTML. */

export const byId = (id) => document.getElementById(id);

/** `attributes`: a function becomes a listener, `false` and `undefined` are left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Sets text only where it changed, which spares a layout and a selection. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Says something to screen readers. */
export function announce(text) {
  setText(byId('announcement'), text);
}
