// Glue between Gradio's HTML component and the viewer; the body of js_on_load, behind viewer*.js.
const viewer = mountWsolviz(element.querySelector(".viewer-host"), props.value, {
  onState: remember,
  onAsk: (question) => trigger("select", question),
});
window.wsolvizField = (answer) => viewer.showField(answer);
let photo = null;
let awaited = false;
document.addEventListener("click", (event) => {
  if (event.target.closest("#explain")) awaited = true;
});
watch("value", () => {
  viewer.update(props.value);
  if (props.value.resets) viewer.setState(props.value.look_defaults);
  remember(viewer.state());
  // Where the grid lies below the choices, a new result would come out of sight. Who only tries other
  // choices is left where they are.
  const isNew = photo !== null && photo !== props.value.photo.src;
  if ((awaited || isNew) && window.innerWidth <= 1000) element.scrollIntoView({ block: "start" });
  photo = props.value.photo.src;
  awaited = false;
});
window.wsolvizState = () => JSON.stringify({ ...viewer.state(), narrow: window.innerWidth <= 1000 });

/** Write what was chosen into the page's address: parameters only, never a photo. */
function remember(state) {
  const shown = props.value;
  if (!state || !shown) return;
  const parameters = new URLSearchParams(shown.address);
  for (const [name, usual] of Object.entries(shown.look_defaults)) {
    const text = textInAddress(name === "overrides" ? shared(state.overrides, shown) : state[name]);
    if (text !== textInAddress(usual)) parameters.set(name, text);
  }
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name.startsWith("__")) parameters.set(name, value); // Gradio's own, such as __theme
  }
  const query = parameters.toString();
  history.replaceState(history.state, "", query ? `?${query}` : location.pathname);
  // On a Space the app lives in a frame; Hugging Face writes this into the outer page's address.
  if (window.parent !== window) {
    window.parent.postMessage({ queryString: query }, "https://huggingface.co");
  }
}

/** @returns {object} The thresholds of those cells whose row an address may name. */
function shared(overrides, shown) {
  const isShared = ([key]) => !shown.private_rows.includes(key.slice(0, key.lastIndexOf("/")));
  return Object.fromEntries(Object.entries(overrides).filter(isShared));
}

/** @returns {string} A part of the viewer's state; of overrides "row/method:0.500,…". */
function textInAddress(value) {
  if (typeof value === "number") return value.toFixed(3);
  if (typeof value !== "object") return value;
  return Object.entries(value).map(([key, threshold]) => `${key}:${threshold.toFixed(3)}`).join(",");
}
