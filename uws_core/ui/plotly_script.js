// Once for all figures of the page, however many components are mounted.
function plotly(address) {
  window.uwsPlotly ??= new Promise((resolve, reject) => {
    window.PlotlyConfig = { MathJaxConfig: "local" }
    const script = document.createElement("script")
    script.src = new URL(address, document.baseURI).href
    script.onload = () => resolve(window.Plotly)
    script.onerror = () => {
      script.remove()
      window.uwsPlotly = undefined
      reject(new Error(`${script.src} cannot be loaded`))
    }
    document.head.append(script)
  })
  return window.uwsPlotly
}
