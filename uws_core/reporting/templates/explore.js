// The explorer of the report: subsets of the models, their centre and k, from the Grams in the page. No request is made.
"use strict";
const Explore = (() => {
  const MOST_HELD_OUT = 60, RESOLVED = 10;

  const numbers = text => new Float64Array(Uint8Array.from(atob(text), char => char.charCodeAt(0)).buffer);

  // Inner products (s x s, row by row) of the chosen models about `mean` (their own), `zero` or `base`.
  function inner(layer, rows, about) {
    const s = rows.length, gram = new Float64Array(s * s), tri = layer.values;
    for (let i = 0; i < s; i++) for (let j = 0; j < s; j++) {
      const a = Math.max(rows[i], rows[j]), b = Math.min(rows[i], rows[j]);
      let value = tri[a * (a + 1) / 2 + b];
      if (about === "zero") value += layer.zero[a] + layer.zero[b] + layer.zeroNorm;
      if (about === "base") value += layer.baseNorm - layer.base[a] - layer.base[b];
      gram[i * s + j] = value;
    }
    return about === "mean" ? centred(gram, s) : gram;
  }

  function centred(gram, s) {
    const mean = new Float64Array(s);
    for (let i = 0; i < s; i++) for (let j = 0; j < s; j++) mean[i] += gram[i * s + j] / s;
    const all = mean.reduce((sum, each) => sum + each, 0) / s;
    return gram.map((value, at) => value - mean[Math.floor(at / s)] - mean[at % s] + all);
  }

  // Eigenvalues, descending, and with `wanted` the vector of value j as vectors[j], which takes ten times as long at
  // n = 500: Householder tridiagonal form, then implicit QL.
  // Source: Bowdler, Martin, Reinsch and Wilkinson 1968 (tred2, tql2).
  function eigen(matrix, n, wanted = true) {
    const V = Array.from({length: n}, (_, i) => Float64Array.from(matrix.subarray(i * n, (i + 1) * n)));
    const d = Float64Array.from(V[n - 1]), e = new Float64Array(n);
    for (let i = n - 1; i > 0; i--) {
      let scale = 0, h = 0;
      for (let k = 0; k < i; k++) scale += Math.abs(d[k]);
      if (scale === 0) {
        e[i] = d[i - 1];
        for (let j = 0; j < i; j++) { d[j] = V[i - 1][j]; V[i][j] = 0; V[j][i] = 0; }
      } else {
        for (let k = 0; k < i; k++) { d[k] /= scale; h += d[k] * d[k]; }
        let f = d[i - 1], g = f > 0 ? -Math.sqrt(h) : Math.sqrt(h);
        e[i] = scale * g; h -= f * g; d[i - 1] = f - g;
        for (let j = 0; j < i; j++) e[j] = 0;
        for (let j = 0; j < i; j++) {
          f = d[j]; V[j][i] = f; g = e[j] + V[j][j] * f;
          for (let k = j + 1; k < i; k++) { g += V[k][j] * d[k]; e[k] += V[k][j] * f; }
          e[j] = g;
        }
        f = 0;
        for (let j = 0; j < i; j++) { e[j] /= h; f += e[j] * d[j]; }
        const hh = f / (h + h);
        for (let j = 0; j < i; j++) e[j] -= hh * d[j];
        for (let j = 0; j < i; j++) {
          f = d[j]; g = e[j];
          for (let k = j; k < i; k++) V[k][j] -= f * e[k] + g * d[k];
          d[j] = V[i - 1][j]; V[i][j] = 0;
        }
      }
      d[i] = h;
    }
    for (let i = 0; wanted && i < n - 1; i++) {
      V[n - 1][i] = V[i][i]; V[i][i] = 1;
      const h = d[i + 1];
      if (h !== 0) {
        for (let k = 0; k <= i; k++) d[k] = V[k][i + 1] / h;
        for (let j = 0; j <= i; j++) {
          let g = 0;
          for (let k = 0; k <= i; k++) g += V[k][i + 1] * V[k][j];
          for (let k = 0; k <= i; k++) V[k][j] -= g * d[k];
        }
      }
      for (let k = 0; k <= i; k++) V[k][i + 1] = 0;
    }
    for (let j = 0; j < n; j++) d[j] = wanted ? V[n - 1][j] : V[j][j];
    if (wanted) { V[n - 1].fill(0); V[n - 1][n - 1] = 1; }
    e[0] = 0;
    for (let i = 1; i < n; i++) e[i - 1] = e[i];
    e[n - 1] = 0;
    let f = 0, largest = 0;
    for (let l = 0; l < n; l++) {
      largest = Math.max(largest, Math.abs(d[l]) + Math.abs(e[l]));
      let m = l;
      while (m < n - 1 && Math.abs(e[m]) > 2 ** -52 * largest) m++;
      if (m > l) {
        let turns = 0;
        do {
          let g = d[l], p = (d[l + 1] - g) / (2 * e[l]), r = Math.hypot(p, 1);
          if (p < 0) r = -r;
          d[l] = e[l] / (p + r); d[l + 1] = e[l] * (p + r);
          const dl1 = d[l + 1];
          let h = g - d[l];
          for (let i = l + 2; i < n; i++) d[i] -= h;
          f += h; p = d[m];
          let c = 1, c2 = 1, c3 = 1, s = 0, s2 = 0;
          const el1 = e[l + 1];
          for (let i = m - 1; i >= l; i--) {
            c3 = c2; c2 = c; s2 = s; g = c * e[i]; h = c * p; r = Math.hypot(p, e[i]);
            e[i + 1] = s * r; s = e[i] / r; c = p / r; p = c * d[i] - s * g;
            d[i + 1] = h + s * (c * g + s * d[i]);
            for (let k = 0; wanted && k < n; k++) {
              h = V[k][i + 1]; V[k][i + 1] = s * V[k][i] + c * h; V[k][i] = c * V[k][i] - s * h;
            }
          }
          p = -s * s2 * c3 * el1 * e[l] / dl1;
          e[l] = s * p; d[l] = c * p;
        } while (Math.abs(e[l]) > 2 ** -52 * largest && ++turns < 60);
      }
      d[l] += f; e[l] = 0;
    }
    const order = Array.from(d.keys()).sort((a, b) => d[b] - d[a]);
    return {values: order.map(j => d[j]), vectors: wanted ? order.map(j => Float64Array.from(V, row => row[j])) : []};
  }

  // Shares of the variance, descending, up to the rounding of the products.
  function spectrum(layer, rows, about) {
    const s = rows.length, {values} = eigen(inner(layer, rows, about), s, false);
    const kept = values.slice(0, about === "mean" ? s - 1 : s).map(value => Math.max(value, 0));
    const total = kept.reduce((sum, value) => sum + value, 0);
    const resolved = kept.filter(value => value > RESOLVED * layer.floor).length;
    return {shares: kept.map(value => total > 0 ? value / total : 0), total, resolved};
  }

  // What is left of each chosen model, squared and relative to its distance from the mean of the others, after k of the
  // others' directions: errors[model][k], k from 0. Leave one out, about the mean.
  function heldOut(layer, rows) {
    const s = rows.length, gram = inner(layer, rows, "mean");
    return rows.map((_, h) => {
      const others = [...rows.keys()].filter(i => i !== h), t = s - 1;
      const block = new Float64Array(t * t), to = new Float64Array(t), mean = new Float64Array(t);
      for (let i = 0; i < t; i++) {
        for (let j = 0; j < t; j++) { block[i * t + j] = gram[others[i] * s + others[j]]; mean[i] += block[i * t + j] / t; }
        to[i] = gram[h * s + others[i]];
      }
      const all = mean.reduce((sum, value) => sum + value, 0) / t;
      const cross = to.reduce((sum, value) => sum + value, 0) / t;
      const whole = gram[h * s + h] - 2 * cross + all;
      const x = to.map((value, i) => value - cross - mean[i] + all);
      const {values, vectors} = eigen(centred(block, t), t);
      const errors = [1];
      let left = whole;
      for (let j = 0; j < t - 1; j++) {
        if (values[j] > RESOLVED * layer.floor) left -= vectors[j].reduce((sum, v, i) => sum + v * x[i], 0) ** 2 / values[j];
        errors.push(whole > 0 ? Math.max(left, 0) / whole : 0);
      }
      return errors;
    });
  }

  function rankAt(shares, share) {
    let sum = 0;
    for (let k = 0; k < shares.length; k++) { sum += shares[k]; if (sum >= share - 1e-12) return k + 1; }
    return shares.length;
  }

  const effectiveRank = shares => Math.exp(-shares.reduce((sum, p) => p > 0 ? sum + p * Math.log(p) : sum, 0));
  const median = list => { const s = [...list].sort((a, b) => a - b), m = s.length >> 1; return s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2; };
  const percent = value => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)}\u00a0%`;

  function start(data) {
    const at = id => document.getElementById(`explore-${id}`);
    for (const layer of data.layers) for (const name of ["values", "zero", "base"]) if (layer[name]) layer[name] = numbers(layer[name]);
    const chosen = new Set(data.labels.keys());
    let state = null;

    const layout = title => ({
      margin: {l: 56, r: 12, t: 12, b: 44}, height: 300, showlegend: false, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
      xaxis: {title: {text: "direction"}, gridcolor: "#e8ecef"},
      yaxis: {title: {text: title}, gridcolor: "#e8ecef", rangemode: "tozero", tickformat: ".0%"},
    });
    const mark = k => [{type: "line", x0: k, x1: k, yref: "paper", y0: 0, y1: 1, line: {color: "#D55E00", width: 2, dash: "dot"}}];

    function show() {
      const k = Number(at("k").value), {shares, errors, rows, layer} = state;
      const carried = shares.slice(0, k).reduce((sum, share) => sum + share, 0);
      at("k-value").textContent = k;
      const left = errors && errors.map(each => each[Math.min(k, each.length - 1)]);
      const random = Math.max(0, 1 - k / layer.d);
      at("answer").textContent = state.total > 0
        ? `${k} direction${k === 1 ? "" : "s"} carry ${percent(carried)} of what makes these ${rows.length} models differ in ${layer.name}.`
        : `These ${rows.length} models do not differ in ${layer.name}.`;
      at("numbers").textContent = state.total > 0
        ? `Rank at 90 %: ${rankAt(shares, 0.9)}. Effective rank: ${effectiveRank(shares).toPrecision(3)}. ` + (left
          ? `Of a model that was held out, ${percent(median(left))} of the squared distance from the others' mean is left (median); random directions leave ${percent(random)}.`
          : `Held-out errors are worked out for at most ${MOST_HELD_OUT} chosen models about their mean.`)
        : "";
      const config = {displaylogo: false, responsive: true, showSendToCloud: false}, x = shares.map((_, i) => i + 1);
      const running = []; shares.reduce((sum, share, i) => running[i] = sum + share, 0);
      Plotly.react(at("scree"), [
        {x, y: shares, type: "scatter", mode: "lines+markers", name: "share", line: {color: "#0072B2"}},
        {x, y: running, type: "scatter", mode: "lines", name: "together", line: {color: "#009E73", dash: "dash"}},
      ], {...layout("share of variance"), shapes: mark(k), showlegend: true, legend: {orientation: "h", y: 1.15}}, config);
      at("held-out").hidden = !left;
      if (left) Plotly.react(at("held-out"), [
        {x: rows.map(row => data.labels[row]), y: left, type: "bar", marker: {color: "#0072B2"}, hovertemplate: "%{x}: %{y:.1%}<extra></extra>"},
      ], {...layout("left, held out"), shapes: [{type: "line", xref: "paper", x0: 0, x1: 1, y0: random, y1: random, line: {color: "#5a646d", dash: "dash"}}],
          xaxis: {type: "category", title: {text: "model (dashed: random directions)"}, showticklabels: rows.length <= 24, automargin: true}}, config);
    }

    function compute() {
      const layer = data.layers[Number(at("layer").value)], about = at("about").value;
      const rows = [...chosen].filter(row => layer.usable[row]).sort((a, b) => a - b);
      for (const box of document.querySelectorAll("[data-explore-row]")) box.checked = chosen.has(Number(box.dataset.exploreRow));
      at("count").textContent = `${rows.length} of ${data.labels.length} models`;
      if (rows.length < 3) { at("answer").textContent = "Choose at least three models."; at("numbers").textContent = ""; return; }
      const errors = about === "mean" && rows.length <= MOST_HELD_OUT ? heldOut(layer, rows) : null;
      state = {layer, rows, errors, ...spectrum(layer, rows, about)};
      at("k").max = Math.max(1, Math.min(state.shares.length, rows.length - 1));
      if (Number(at("k").value) > Number(at("k").max)) at("k").value = at("k").max;
      show();
    }

    data.layers.forEach((layer, i) => at("layer").add(new Option(layer.name, i)));
    if (!data.layers.every(layer => layer.base)) [...at("about").options].find(option => option.value === "base").remove();
    data.labels.forEach((label, row) => {
      const line = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox"; box.dataset.exploreRow = row; box.checked = true;
      box.addEventListener("change", () => { box.checked ? chosen.add(row) : chosen.delete(row); compute(); });
      line.append(box, ` ${label}`); at("models").append(line);
    });
    const button = (text, act) => {
      const made = document.createElement("button");
      made.type = "button"; made.textContent = text; made.addEventListener("click", () => { act(); compute(); });
      at("groups").append(made);
    };
    button("all models", () => data.labels.forEach((_, row) => chosen.add(row)));
    for (const [name, values] of Object.entries(data.attributes)) for (const value of new Set(values))
      button(`${name}: ${value}`, () => { chosen.clear(); values.forEach((each, row) => each === value && chosen.add(row)); });
    for (const id of ["layer", "about"]) at(id).addEventListener("change", compute);
    at("k").addEventListener("input", () => state && requestAnimationFrame(show));
    compute();
  }

  return {start, inner, eigen, spectrum, heldOut, rankAt, effectiveRank, numbers};
})();
