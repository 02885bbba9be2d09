
// The model under the pointer is marked in every figure of the page; a click keeps it marked, another click lets go.
// A figure knows its models by the names that its points, rows, columns or lines carry; see figure_component.py.

const MARK = "#D55E00"

function markedModels() {
  const { hovered = [], pinned = [] } = window.uwsModels ?? {}
  return [...new Set([...pinned, ...hovered])]
}

function mark(changes) {
  window.uwsModels = { ...window.uwsModels, ...changes }
  window.dispatchEvent(new CustomEvent("uws-models"))
}

function pin(models) {
  const before = window.uwsModels?.pinned ?? []
  mark({ pinned: before.join("\n") === models.join("\n") ? [] : models, hovered: [] })
}

// The models of a point that the pointer is over: of its own, or of its row and its column.
function modelsAt(event, names) {
  const found = []
  for (const point of event.points) {
    const own = [point.customdata].flat().filter((value) => names.has(value))
    const places = [named(point.yaxis, point.y), named(point.xaxis, point.x)].filter((value) => names.has(value))
    found.push(...(own.length ? own : places))
  }
  return [...new Set(found)]
}

function named(axis, value) {
  if (typeof value === "string") return value
  return axis?.ticktext?.[Array.from(axis.tickvals ?? []).indexOf(value)]
}

// Where a model is in a figure, as shapes.
function marksOf(node, models) {
  const line = { color: MARK, width: 2 }
  const shapes = []
  for (const model of models) {
    for (const [letter, other] of ["yx", "xy"]) {
      const place = placeOf(node, letter, model)
      if (place === null) continue
      const span = { [`${letter}0`]: place - 0.5, [`${letter}1`]: place + 0.5, [`${other}0`]: 0, [`${other}1`]: 1 }
      shapes.push({ type: "rect", line, xref: "x", yref: "y", [`${other}ref`]: `${other} domain`, ...span })
    }
    for (const trace of node._fullData) {
      if (trace.visible !== true || !trace.type.startsWith("scatter")) continue
      const axes = { xref: trace.xaxis, yref: trace.yaxis }
      if (Array.isArray(trace.meta)) shapes.push(...lineOf(trace, trace.meta.indexOf(model)).map((path) => ({ type: "path", path, line: { ...line, width: 2.5 }, ...axes })))
      const rows = Array.isArray(trace.customdata) ? trace.customdata : []
      rows.forEach((value, i) => {
        if ([value].flat()[0] !== model || trace.x[i] == null || trace.y[i] == null) return
        const ring = { x0: -8, x1: 8, y0: -8, y1: 8, xsizemode: "pixel", ysizemode: "pixel" }
        const label = { text: model, textposition: "top center", yanchor: "bottom", font: { color: MARK, size: 12 } }
        shapes.push({ type: "circle", line, ...ring, xanchor: trace.x[i], yanchor: trace.y[i], label, ...axes })
      })
    }
  }
  return shapes
}

// The row or column of a model: among categories, or among the names at the ticks of a matrix.
function placeOf(node, letter, model) {
  const axis = node._fullLayout[`${letter}axis`]
  if (axis?.type === "category") {
    const place = axis._categories.indexOf(model)
    return place < 0 ? null : place
  }
  const place = (axis?.ticktext ?? []).indexOf(model)
  return place < 0 ? null : axis.tickvals[place]
}

// One of several lines that gaps divide, as a path.
function lineOf(trace, index) {
  if (index < 0) return []
  let at = 0
  const points = []
  for (let i = 0; i < trace.x.length && at <= index; i++) {
    if (Number.isFinite(trace.x[i])) {
      if (at === index && Number.isFinite(trace.y[i])) points.push(`${trace.x[i]},${trace.y[i]}`)
    } else at++
  }
  return points.length > 1 ? [`M${points.join("L")}`] : []
}
