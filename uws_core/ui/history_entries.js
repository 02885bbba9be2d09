// One entry in the browser's history for each act of the visitor. Streamlit adds one for every address that its server
// writes, up to four for a page that is opened, and going back would stay on the page.
window.uwsHistory ??= (() => {
  const push = history.pushState.bind(history)
  let acted = false
  history.pushState = (state, title, address) => {
    if (acted) push(state, title, address)
    else history.replaceState(state, title, address)
    acted = false
  }
  for (const act of ["pointerdown", "keydown"]) window.addEventListener(act, () => (acted = true), true)
  // What the page completes in an address that was come back to is the same place.
  window.addEventListener("popstate", () => (acted = false), true)
  return true
})()
