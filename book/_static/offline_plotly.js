/* Draws the page's interactive figures when they come near, and gives each a native slider for every control.

   A figure has all its states in it, as frames named by the sliders' positions (evidence/figures/interactive.py), so nothing is
   computed or fetched here. Whatever fails, the static image stays. */
(() => {
  "use strict";

  const plotlyUrl = new URL("plotly.min.js", document.currentScript.src).href;
  const flat = { displayModeBar: false, scrollZoom: false, displaylogo: false };
  const solid = { ...flat, displayModeBar: true, modeBarButtons: [["resetCameraDefault3d"]] };

  /* Both plotly and MathJax look for each other; MathJax has to be done with the page first. */
  async function mathjaxIsDone() {
    if (document.readyState !== "complete") {
      await new Promise((resolve) => window.addEventListener("load", resolve, { once: true }));
    }
    await window.MathJax?.startup?.promise;
  }

  let loading = null;
  function loadPlotly() {
    loading ??= mathjaxIsDone().then(
      () =>
        new Promise((resolve, reject) => {
          window.PlotlyConfig = { MathJaxConfig: "local" };
          const script = document.createElement("script");
          script.src = plotlyUrl;
          script.onload = () => resolve(window.Plotly);
          script.onerror = () => reject(new Error("plotly.min.js is missing"));
          document.head.append(script);
        }),
    );
    return loading;
  }

  const isSolid = (figure) => figure.data.some((trace) => ["surface", "scatter3d", "mesh3d"].includes(trace.type));

  function hasWebGL() {
    const context = document.createElement("canvas").getContext("webgl");
    context?.getExtension("WEBGL_lose_context")?.loseContext(); // a browser keeps only a few
    return Boolean(context);
  }

  /* The traces of one state: what all states share, and over it what the frame changes. */
  function traces(figure, state) {
    const data = figure.data.map((trace) => ({ ...trace }));
    const frame = figure.frames.find((candidate) => candidate.name === state);
    frame?.traces.forEach((index, n) => Object.assign(data[index], frame.data[n]));
    return data;
  }

  function makeSlider(control, onInput) {
    const label = document.createElement("label");
    label.className = "interactive-control";
    const name = document.createElement("span");
    name.textContent = control.name;
    const value = document.createElement("span");
    value.className = "interactive-value";
    value.setAttribute("aria-hidden", "true"); // the slider itself says it
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: control.values.length - 1, step: 1, value: control.start });
    input.setAttribute("aria-label", control.name);
    input.disabled = control.values.length < 2;
    const show = () => {
      value.textContent = control.labels[input.value];
      input.setAttribute("aria-valuetext", control.labels[input.value]);
    };
    input.addEventListener("input", () => {
      show();
      onInput();
    });
    show();
    label.append(name, value, input);
    return { label, input };
  }

  async function draw(box) {
    const plot = box.querySelector(".interactive-plot");
    const figure = JSON.parse(box.querySelector("script").textContent);
    const threeD = isSolid(figure);
    if (threeD && !hasWebGL()) return;
    const Plotly = await loadPlotly();

    let waiting = false;
    const sliders = figure.layout.meta.controls.map((control) => makeSlider(control, move));
    const state = () => sliders.map(({ input }) => input.value).join("-");
    function move() {
      if (waiting) return; // at most one drawing for each repaint
      waiting = true;
      requestAnimationFrame(async () => {
        waiting = false;
        const shown = state();
        await Plotly.react(plot, traces(figure, shown), layout, config);
        plot.dataset.state = shown;
      });
    }
    const controls = document.createElement("div");
    controls.className = "interactive-controls";
    controls.append(...sliders.map(({ label }) => label));

    const layout = figure.layout;
    const config = threeD ? solid : flat;
    if (!threeD) layout.dragmode = false; // a finger on the figure scrolls the page

    box.classList.add("drawing"); // it needs a width, but must not be seen yet
    plot.after(controls);
    try {
      const eye = layout.scene?.camera?.eye;
      const distance = plot.clientWidth > 500 ? 0.85 : 1.15; // a narrow screen cuts off the sides
      if (eye) for (const axis of "xyz") eye[axis] *= distance;
      await Plotly.newPlot(plot, traces(figure, state()), layout, config);
      plot.dataset.state = state();
      box.classList.add("drawn");
    } finally {
      box.classList.remove("drawing");
    }
    let width = plot.clientWidth;
    new ResizeObserver(() => {
      if (plot.clientWidth && plot.clientWidth !== width) {
        width = plot.clientWidth;
        Plotly.Plots.resize(plot);
      }
    }).observe(plot);
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        draw(target.querySelector(":scope > .interactive")).catch((error) => console.error(error));
      }
    },
    { rootMargin: "100% 0px" },
  );
  // A figure that is not drawn has no place of its own: its surroundings are watched.
  for (const box of document.querySelectorAll(".interactive")) near.observe(box.parentElement);
})();
