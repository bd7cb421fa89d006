const at = (id) => document.getElementById(id);

const large = at("large");
function enlarge(picture) {
  Object.assign(large.querySelector("img"), { src: picture.src, alt: picture.alt, hidden: false });
  large.showModal();
}
for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => enlarge(button.querySelector("img")));
}
for (const link of document.querySelectorAll("a.shows")) {
  link.addEventListener("click", (event) => {
    const picture = document.querySelector(`${link.hash} img`);
    if (!picture) return;
    event.preventDefault();
    enlarge(picture);
  });
}
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

async function startLive() {
  const { tasks, methods, charts } = JSON.parse(at("plane-data").textContent);
  const views = {};
  for (const [name, chart] of Object.entries(charts)) {
    views[name] = (await vegaEmbed(at(name), chart, { actions: false, renderer: "svg", logLevel: 1 })).view;
  }
  const fill = (id, entries) => at(id).replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  const distinct = (values) => [...new Set(values)];
  const steps = (paths) => Math.max(...Object.values(paths).map((path) => path.steps.length)) - 1;

  const rowsOf = (parts, kind) => parts.map(([weight, x, y, sx, sy], k) => ({ kind, component: k + 1, weight, x, y, sx, sy }));
  const pointsOf = (task, look) => task.points.map(([x, y], i) => ({ x, y, true: task.labels[i] + 1, ...look(i) }));
  const sure = (shares) => {
    const most = Math.max(...shares);
    const text = shares.map((share, k) => `${k + 1}: ${share} %`).join(", ");
    return { component: shares.indexOf(most) + 1, certainty: most / 100, responsibilities: text };
  };
  const show = (name, task, points, estimate) => {
    const reach = Math.max(...task.points.flat().map(Math.abs), 5) + 0.5;
    const rows = [...rowsOf(task.truth, "truth"), ...rowsOf(estimate ?? [], "estimate")];
    views[name].signal("limit", reach).data("points", points).data("components", rows).runAsync();
  };

  let task;
  function showFit() {
    const name = at("method").value, fit = task.fits[name];
    if (!fit || fit.failure) {
      show("fit", task, pointsOf(task, () => ({ component: 0, certainty: 0.6, responsibilities: "no estimate" })), null);
      at("fit-text").textContent = `${methods[name]} gives no estimate: ${fit ? fit.failure : "it was not run on these tasks"}.`;
      return;
    }
    show("fit", task, pointsOf(task, (i) => sure(fit.responsibilities[i])), fit.components);
    at("fit-text").textContent = `${methods[name]}: ℓ2-error ${fit.error}.`;
  }
  function showErrors() {
    const known = Object.entries(methods).filter(([name]) => name in task.fits);
    at("task-errors").replaceChildren(...known.map(([name, label]) => {
      const row = document.createElement("tr"), error = document.createElement("td");
      row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: label }), error);
      Object.assign(error, { className: "number", textContent: task.fits[name].error ?? "fails" });
      return row;
    }));
  }
  function showStep() {
    const step = +at("step").value;
    at("step-shown").textContent = step;
    for (const [place, method, unit] of places()) {
      const path = task.paths[method];
      if (!path) { at(`${place}-text`).textContent = "No network with read-outs after its blocks is there."; continue; }
      const now = Math.min(step, path.steps.length - 1);
      const look = (i) => ({ component: +path.labels[now][i] + 1, certainty: 1, responsibilities: "most probable" });
      show(place, task, pointsOf(task, look), path.steps[now]);
      at(`${place}-text`).textContent = `${unit(now)}: ℓ2-error ${path.errors[now]}${now < step ? " (the last there is)" : ""}.`;
    }
    views.errors.signal("step", step).runAsync();
  }
  const places = () => {
    const network = Object.keys(task.paths).find((name) => name !== "em");
    return [
      ["em", "em", (n) => `EM after ${n} iterations`],
      ["network", network, (n) => `${methods[network]} after block ${n + 1}`],
    ];
  };
  function showTask() {
    const number = +at("task").value;
    task = chosen().find((entry) => entry.number === number) ?? chosen()[0];
    at("task-shown").textContent = `${task.number} of ${chosen().length}`;
    at("step").max = steps(task.paths);
    const names = { em: "EM" };
    const rows = Object.entries(task.paths).flatMap(([method, path]) =>
      path.errors.map((error, i) => ({ path: names[method] ?? "network", step: i, error })));
    views.errors.data("errors", rows);
    showErrors();
    showFit();
    showStep();
  }
  const chosen = () => tasks.filter((entry) => entry.covariance === at("covariance").value && entry.K === +at("K").value);
  function showCell() {
    at("task").max = chosen().length;
    const there = Object.entries(methods).filter(([name]) => chosen().some((entry) => name in entry.fits));
    const before = at("method").value;
    fill("method", there);
    at("method").value = there.some(([name]) => name === before) ? before : there.find(([name]) => name.startsWith("tgmm"))?.[0] ?? there[0][0];
    showTask();
  }
  const shapes = { isotropic: "round", anisotropic: "stretched" };
  fill("covariance", distinct(tasks.map((entry) => entry.covariance)).map((name) => [name, shapes[name] ?? name]));
  fill("K", distinct(tasks.map((entry) => entry.K)).map((K) => [K, K]));
  at("K").value = tasks.some((entry) => entry.K === 3) ? 3 : tasks[0].K;
  at("task").value = 1;
  at("covariance").addEventListener("input", showCell);
  at("K").addEventListener("input", showCell);
  at("task").addEventListener("input", showTask);
  at("method").addEventListener("input", showFit);
  at("step").addEventListener("input", showStep);
  const move = (by) => { at("step").value = +at("step").value + by; showStep(); };
  at("back").addEventListener("click", () => move(-1));
  at("forward").addEventListener("click", () => move(1));
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; at("play").textContent = "Play"; at("play").ariaPressed = "false"; };
  at("play").addEventListener("click", () => {
    if (timer) return stop();
    if (at("step").value === at("step").max) at("step").value = 0;
    at("play").textContent = "Stop";
    at("play").ariaPressed = "true";
    timer = setInterval(() => { move(1); if (at("step").value === at("step").max) stop(); }, 600);
  });
  showCell();
  document.body.dataset.live = "ready";
}
if (at("plane-data")) startLive();
