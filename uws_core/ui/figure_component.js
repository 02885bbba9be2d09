// One figure, drawn by plotly into a node that stays while the figure changes: zoom and legend choice survive.
// `data` is the bytes of {figure: {data, layout}, config, alt, filename, names, key, library, revision, clickable, dark}, made by figure_component.py.
// `plotly` is in plotly_script.js, which comes before this text.

const FULL_SCREEN = "M256 42H42v214h86V128h128zM744 42v86h128v128h86V42zM128 744H42v214h214v-86H128zM872 872H744v86h214V744h-86z"

class Figure {
  constructor(parent) {
    this.node = document.createElement("div")
    this.node.className = "uws-figure"
    this.node.setAttribute("role", "figure")
    parent.append(this.node)
    this.visible = false
    this.drawing = Promise.resolve()
    // Drawn when it comes near the window: a figure costs 25 to 100 ms of the browser's one thread.
    this.near = new IntersectionObserver(
      ([entry]) => {
        this.visible = entry.isIntersecting
        if (this.visible) this.draw()
      },
      { rootMargin: "400px" },
    )
    this.near.observe(this.node)
    this.sized = new ResizeObserver(() => this.resize())
    this.sized.observe(this.node)
    this.changed = () => this.setHeight()
    this.node.addEventListener("fullscreenchange", this.changed)
    // What is not on the screen yet is on paper.
    this.printed = () => this.draw()
    window.addEventListener("beforeprint", this.printed)
    // A slider is dragged: only what it moves is drawn anew, once a frame.
    this.moved = () => (this.moving ||= requestAnimationFrame(() => this.follow()))
    window.addEventListener("uws-live", this.moved)
    this.marked = () => (this.marking ||= requestAnimationFrame(() => this.markModels()))
    window.addEventListener("uws-models", this.marked)
  }

  show(spec, send) {
    this.send = send
    this.spec = spec
    this.names = new Set(spec.names)
    this.stale = true
    this.node.setAttribute("aria-label", spec.alt)
    this.setHeight()
    if (this.visible) this.draw()
  }

  setHeight() {
    const whole = document.fullscreenElement === this.node
    this.node.style.height = whole ? "100vh" : `${this.spec.figure.layout.height ?? 450}px`
  }

  draw() {
    this.drawing = this.drawing.then(() => this.drawNow()).catch((error) => this.fail(error))
  }

  async drawNow() {
    if (!this.stale || this.removed) return
    const Plotly = await plotly(this.spec.library)
    if (this.removed) return
    this.stale = false
    const { figure, config } = this.spec
    const first = !this.node.querySelector(".plot-container")
    if (first) this.node.replaceChildren()
    await Plotly.react(this.node, figure.data, this.layout(figure.layout), this.config(config))
    if (first) this.listen()
    this.shown = ""
    await this.markModels()
    this.node.dataset.drawn = String(Number(this.node.dataset.drawn ?? 0) + 1)
    await this.follow()
  }

  listen() {
    this.node.on("plotly_click", (event) => this.clicked(event))
    const at = (event) => modelsAt(event, this.names)
    this.node.on("plotly_click", (event) => at(event).length && pin(at(event)))
    this.node.on("plotly_hover", (event) => mark({ hovered: at(event) }))
    this.node.on("plotly_unhover", () => mark({ hovered: [] }))
  }

  // Rings, rows and lines of the marked models, after the figure's own shapes.
  async markModels() {
    this.marking = 0
    if (this.removed || !this.visible || !this.node._fullLayout) return
    const models = markedModels().filter((model) => this.names.has(model))
    const key = models.join("\n")
    if (key === (this.shown ?? "")) return
    this.shown = key
    const own = (this.node.layout.shapes ?? []).slice(0, this.spec.figure.layout.shapes?.length ?? 0)
    const marks = marksOf(this.node, models)
    if (own.length + marks.length !== (this.node.layout.shapes ?? []).length || marks.length) {
      await window.Plotly.relayout(this.node, { shapes: [...own, ...marks] })
    }
    this.node.dataset.marked = marks.length ? key : ""
  }

  // What the position of a slider that is being dragged changes here: see live.py.
  async follow() {
    this.moving = 0
    const { figures, at } = window.uwsLive ?? {}
    const move = figures?.[this.spec.key]
    if (!move || this.removed || !this.visible || !this.node.querySelector(".plot-container")) return
    const layout = Object.fromEntries(Object.entries(move.layout).map(([path, values]) => [path, values[at]]))
    for (const kind of ["shapes", "annotations"]) {
      for (const [name, properties] of Object.entries(move[kind])) {
        const index = this.spec.figure.layout[kind]?.findIndex((one) => one.name === name) ?? -1
        if (index < 0) continue
        for (const [property, values] of Object.entries(properties)) layout[`${kind}[${index}].${property}`] = values[at]
      }
    }
    if (Object.keys(layout).length) await window.Plotly.relayout(this.node, layout)
    for (const [name, properties] of Object.entries(move.traces)) {
      const index = this.spec.figure.data.findIndex((one) => one.name === name)
      const changes = Object.entries(properties).map(([property, values]) => [property, [values[at]]])
      if (index >= 0) await window.Plotly.restyle(this.node, Object.fromEntries(changes), [index])
    }
    this.node.dataset.followed = String(at)
  }

  layout(layout) {
    const style = getComputedStyle(this.node)
    const font = style.getPropertyValue("--st-font")
    const own = { ...layout, autosize: true, uirevision: this.revision(layout) }
    delete own.height
    own.font = { ...layout.font, ...(font && { family: font }) }
    const ink = style.getPropertyValue("--st-text-color")
    own.modebar = { bgcolor: "rgba(0,0,0,0)", color: layout.template.layout.xaxis.linecolor, activecolor: ink }
    // A finger that drags scrolls the page.
    if (isTouched()) own.dragmode = false
    const dark = isDark(style.getPropertyValue("--st-background-color"))
    if (dark !== null && dark !== this.spec.dark) {
      // The theme was changed after the figure was made: text and grid follow at once, colours at the next run.
      own.template = retinted(
        layout.template,
        ink,
        style.getPropertyValue("--st-border-color"),
      )
    }
    return own
  }

  revision(layout) {
    const types = Object.keys(layout).filter((key) => /^[xy]axis/.test(key)).map((key) => layout[key].type ?? "")
    return [this.spec.revision, ...types].join("|")
  }

  // The same object each time: plotly makes a figure anew, without its zoom, when any part of the config differs.
  config(config) {
    const icon = { width: 1000, height: 1000, path: FULL_SCREEN }
    this.settings ??= {
      ...config,
      ...(isTouched() && { displayModeBar: false }),
      modeBarButtonsToAdd: [
        { name: "download", title: "Download plot", icon: window.Plotly.Icons.camera, click: () => this.download() },
        { name: "fullscreen", title: "Full screen", icon, click: () => this.toggleFullScreen() },
      ],
    }
    return this.settings
  }

  download() {
    const { width, height } = this.node._fullLayout
    window.Plotly.downloadImage(this.node, { format: "svg", filename: this.spec.filename, width, height })
  }

  toggleFullScreen() {
    if (document.fullscreenElement) document.exitFullscreen()
    else this.node.requestFullscreen()
  }

  clicked(event) {
    if (!this.spec.clickable) return
    const points = event.points.map((point) => ({
      curve_number: point.curveNumber,
      point_index: point.pointIndex ?? point.pointNumber,
      x: point.x,
      y: point.y,
      customdata: point.customdata ?? null,
    }))
    this.send("selection", { points })
  }

  resize() {
    if (this.resizing || this.removed) return
    this.resizing = requestAnimationFrame(() => {
      this.resizing = 0
      if (!this.removed && this.node.offsetWidth && this.node.querySelector(".plot-container")) {
        window.Plotly.Plots.resize(this.node)
      }
    })
  }

  fail(error) {
    if (!this.removed) this.node.textContent = `The figure cannot be drawn: ${error.message}`
  }

  remove() {
    if (this.removed) return
    this.removed = true
    this.near.disconnect()
    this.sized.disconnect()
    window.removeEventListener("beforeprint", this.printed)
    window.removeEventListener("uws-live", this.moved)
    window.removeEventListener("uws-models", this.marked)
    if (this.node.querySelector(".plot-container")) window.Plotly?.purge(this.node)
    this.node.remove()
  }
}

function isTouched() {
  return matchMedia("(pointer: coarse)").matches
}

function isDark(colour) {
  const parts = /^#(..)(..)(..)/.exec(colour.trim())
  if (!parts) return null
  const [red, green, blue] = parts.slice(1).map((part) => parseInt(part, 16))
  return 0.3 * red + 0.59 * green + 0.11 * blue < 128
}

function retinted(template, text, grid) {
  const changed = structuredClone(template)
  const { layout } = changed
  layout.font.color = text
  if (layout.legend?.font) layout.legend.font.color = text
  for (const axis of [layout.xaxis, layout.yaxis]) {
    axis.tickfont.color = text
    axis.title.font.color = text
    axis.gridcolor = grid
  }
  return changed
}

export default function ({ parentElement, data, setTriggerValue }) {
  const figure = (parentElement.uwsFigure ??= new Figure(parentElement))
  const text = new TextDecoder().decode(data)
  const ink = getComputedStyle(parentElement).getPropertyValue("--st-text-color")
  // Called for every run; only another figure or another theme draws anew.
  if (figure.text !== text || figure.ink !== ink) {
    Object.assign(figure, { text, ink })
    figure.show(JSON.parse(text), setTriggerValue)
  }
  return () => {
    figure.remove()
    if (parentElement.uwsFigure === figure) delete parentElement.uwsFigure
  }
}
