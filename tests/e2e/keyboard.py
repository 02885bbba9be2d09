"""What a reader without a mouse meets on a page: the controls that have no name, and those that Tab does not reach."""

from __future__ import annotations

from playwright.sync_api import Page

# Controls a reader can see, of the page and of the sidebar; each gets a number. Of the choices in one group, arrow keys
# reach the others. A figure's own buttons repeat what its export offers, and the frame of a table is what Tab reaches.
_CONTROLS = """() => {
  const found = []
  const kinds = 'a[href], button, input, textarea, select, summary, [role=slider], [role=radio], [role=checkbox]'
  const off = '[inert], [aria-hidden=true], [aria-disabled=true], .modebar'
  const look = root => {
    for (const node of root.querySelectorAll('*')) {
      if (node.shadowRoot) look(node.shadowRoot)
      if (!node.matches(kinds)) continue
      const box = node.getBoundingClientRect()
      const seen = box.width > 1 && box.height > 1 || node.matches('[type=radio], [type=checkbox]')
      if (!seen || node.disabled || node.closest(off)) continue
      if (getComputedStyle(node).visibility === 'hidden') continue
      found.push(node)
    }
  }
  for (const root of document.querySelectorAll('[data-testid=stMain], [data-testid=stSidebar]')) look(root)
  window.uwsControls = found
  return found.length
}"""
_UNNAMED = """() => window.uwsControls.filter(node => {
  const ids = (node.getAttribute('aria-labelledby') ?? '').split(' ')
  const words = [...ids.map(id => document.getElementById(id)), ...(node.labels ?? []), node].map(one => one?.innerText)
  return !['aria-label', 'title', 'placeholder'].map(name => node.getAttribute(name)).concat(words).join('').trim()
}).map(node => node.outerHTML.slice(0, 200))"""
_STEP = """() => {
  let node = document.activeElement
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement
  if (!node || node === document.body) return false
  ;(window.uwsReached ??= new Set()).add(node)
  return true
}"""
_MISSED = """() => {
  const group = node => node.closest('[role=radiogroup], [role=group], [data-testid=stButtonGroup]')
  const reached = [...window.uwsReached]
  const groups = new Set(reached.map(group).filter(Boolean))
  return window.uwsControls.filter(node => node.isConnected && !window.uwsReached.has(node) && !groups.has(group(node))
    && !reached.some(other => other.contains(node))).map(node => node.outerHTML.slice(0, 200))
}"""


def unnamed(page: Page) -> list[str]:
    """The controls without a name that a screen reader could say."""
    assert page.evaluate(_CONTROLS) > 0
    return list(page.evaluate(_UNNAMED))


def unreached(page: Page) -> list[str]:
    """The controls that a reader who presses Tab from the top never gets to."""
    controls = int(page.evaluate(_CONTROLS))
    page.evaluate("document.activeElement?.blur(); window.uwsReached = new Set(); window.scrollTo(0, 0)")
    # Tables, help marks and buttons of figures are stops too.
    for _ in range(4 * controls + 60):
        page.keyboard.press("Tab")
        if not page.evaluate(_STEP) and page.evaluate("window.uwsReached.size") > 1:
            break
    return list(page.evaluate(_MISSED))
