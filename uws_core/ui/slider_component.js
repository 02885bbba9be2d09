// A range input whose positions all are in the browser: a drag moves figures and writes answer and numbers anew; the
// release, or a pause after the last key, commits once. `data` is the bytes of what live.py tells.

// A held key commits once, when it rests.
const REST_MS = 350

class Slider {
  constructor(parent) {
    this.root = document.createElement("div")
    this.root.className = "uws-slider"
    this.label = document.createElement("label")
    this.input = document.createElement("input")
    Object.assign(this.input, { type: "range", min: 0, step: 1 })
    this.value = document.createElement("output")
    this.label.append(this.input, this.value)
    this.root.append(this.label)
    parent.append(this.root)
    this.written = []
    this.input.addEventListener("pointerenter", () => this.reach())
    this.input.addEventListener("focus", () => this.reach())
    this.input.addEventListener("input", () => this.moved())
    this.input.addEventListener("pointerdown", () => (this.held = true))
    this.released = () => {
      this.held = false
      if (this.waiting) this.commitSoon(0)
    }
    window.addEventListener("pointerup", this.released)
    window.addEventListener("pointercancel", this.released)
  }

  show(data, trigger) {
    const before = this.data
    Object.assign(this, { data, trigger })
    this.input.max = data.texts.length - 1
    this.input.setAttribute("aria-label", data.label)
    this.root.dataset.ready = String(Boolean(data.steps))
    if (before?.subject !== data.subject) this.asked = false
    // What is dragged stays where the hand is; everything else follows the page.
    if (this.held || this.waiting) return this.follow()
    this.input.value = data.at
    this.say()
    this.rest()
  }

  // Ask for what it takes to follow, once for each subject.
  reach() {
    if (this.data.steps || this.asked) return
    this.asked = true
    this.trigger("reach", true)
  }

  moved() {
    this.reach()
    this.waiting = true
    this.say()
    this.follow()
    if (!this.held) this.commitSoon(REST_MS)
  }

  commitSoon(pause) {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => {
      this.waiting = false
      if (this.at !== this.data.at) this.trigger("commit", this.at)
      else this.rest()
    }, pause)
  }

  get at() {
    return Math.min(Number(this.input.value), this.data.texts.length - 1)
  }

  say() {
    const text = this.data.texts[this.at]
    this.value.textContent = `${this.data.label.split(",")[0]} ${text}${this.data.label.includes("%") ? " %" : ""}`
    this.input.setAttribute("aria-valuetext", text)
  }

  follow() {
    const { steps, name } = this.data
    if (!steps) return
    window.uwsLive = { name, at: this.at, figures: steps.figures }
    window.dispatchEvent(new CustomEvent("uws-live", { detail: window.uwsLive }))
    this.unwrite()
    const { answer, numbers } = this.data.places
    if (steps.answers.length) this.write(answer, (copy) => answered(copy, steps.answers[this.at]))
    if (steps.numbers.length) this.write(numbers, (copy) => counted(copy, steps.numbers[this.at]))
  }

  rest() {
    window.uwsLive = undefined
    this.unwrite()
  }

  // What React made is left alone: a changed copy stands before it while it is hidden.
  write(place, change) {
    const own = document.querySelector(`.st-key-${place}`)
    if (!own) return
    const copy = own.cloneNode(true)
    copy.className = own.className.replace(`st-key-${place}`, "uws-live-copy")
    change(copy)
    own.before(copy)
    own.style.display = "none"
    this.written.push([own, copy])
  }

  unwrite() {
    for (const [own, copy] of this.written) {
      copy.remove()
      own.style.display = ""
    }
    this.written = []
  }

  remove() {
    clearTimeout(this.timer)
    this.rest()
    window.removeEventListener("pointerup", this.released)
    window.removeEventListener("pointercancel", this.released)
    this.root.remove()
  }
}

// Names stand in backticks, as in the page's own text.
function answered(copy, text) {
  const heading = copy.querySelector("h3")
  const inner = heading?.querySelector("span") ?? heading
  inner?.replaceChildren(
    ...text.split("`").map((part, i) => {
      if (i % 2 === 0) return part
      const code = document.createElement("code")
      code.textContent = part
      return code
    }),
  )
}

function counted(copy, row) {
  const cells = [...copy.querySelectorAll("[data-testid=stMetric]")]
  row.forEach(([name, value, note], i) => {
    const cell = cells[i]
    if (!cell) return
    last(cell.querySelector("[data-testid=stMetricLabel]")).textContent = name
    last(cell.querySelector("[data-testid=stMetricValue]")).textContent = value
    const caption = cell.closest("[data-testid=stVerticalBlock]")?.querySelector("[data-testid=stCaptionContainer]")
    if (caption) last(caption).textContent = note
  })
}

function last(node) {
  while (node.firstElementChild) node = node.firstElementChild
  return node
}

export default function ({ parentElement, data, setTriggerValue }) {
  const slider = (parentElement.uwsSlider ??= new Slider(parentElement))
  slider.show(decoded(JSON.parse(new TextDecoder().decode(data))), setTriggerValue)
  return () => {
    slider.remove()
    if (parentElement.uwsSlider === slider) delete parentElement.uwsSlider
  }
}

// Arrays travel in base64; the first axis is the positions.
function decoded(data) {
  for (const move of Object.values(data.steps?.figures ?? {})) {
    for (const named of [move.shapes, move.annotations, move.traces]) {
      for (const properties of Object.values(named)) unpack(properties)
    }
    unpack(move.layout)
  }
  return data
}

const KINDS = {
  f4: Float32Array, f8: Float64Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array,
  u4: Uint32Array,
}

function unpack(properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (!value?.bdata) continue
    const raw = Uint8Array.from(atob(value.bdata), (letter) => letter.charCodeAt(0))
    const flat = new KINDS[value.dtype](raw.buffer)
    const [steps, rows, columns] = String(value.shape ?? flat.length).split(",").map(Number)
    const size = flat.length / steps
    properties[name] = Array.from({ length: steps }, (_, i) => {
      const part = flat.subarray(i * size, (i + 1) * size)
      if (rows === undefined) return part[0]
      return columns === undefined ? part : Array.from({ length: rows }, (_, j) => part.subarray(j * columns, (j + 1) * columns))
    })
  }
}
