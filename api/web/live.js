// The live page: a project's observations and jobs as they commit. What comes
// from the server is shown as text and never read as HTML.
"use strict";

const at = (id) => document.getElementById(id);
const most = 200; // rows that the page keeps

let key = "", project = "", opened = "";
let stop = new AbortController();
const jobs = new Map(); // by id, as the newest event left them

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function call(path, options = {}) {
  const answer = await fetch(path, {
    ...options, cache: "no-store",
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json", ...options.headers },
  });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, problem.message || `The server answered ${answer.status}`);
  }
  return answer;
}

const read = async (path, options) => (await call(path, options)).json();
const send = (path, body) => read(path, { method: "POST", body: JSON.stringify(body) });

function tell(text, bad = false) {
  at("state").textContent = text;
  at("state").classList.toggle("bad", bad);
}

function cells(row, ...values) {
  for (const v of values) {
    const cell = row.insertCell();
    if (v instanceof Node) cell.append(v); else cell.textContent = v ?? "";
  }
}

// The newest observations: the tool that agents have for it.
async function recent() {
  const answer = await call("/v1/mcp", {
    method: "POST", headers: { Accept: "application/json, text/event-stream" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "recent", arguments: { projectId: project, limit: 50 } } }),
  });
  const text = await answer.text();
  const line = text.split("\n").find((l) => l.startsWith("data: "));
  const result = JSON.parse(line ? line.slice(6) : text).result;
  if (result.isError) throw new Error(result.content[0].text);
  return JSON.parse(result.content[0].text).observations;
}

function observationNode(o) {
  const node = at("observation").content.cloneNode(true).firstElementChild;
  const [title, ...rest] = o.content.split("\n");
  node.querySelector("h3").textContent = title;
  node.querySelector(".about").textContent = `${o.kind} · ${new Date(o.createdAtEpoch).toLocaleString()}`;
  node.querySelector(".text").textContent = rest.join("\n").trim();
  node.dataset.id = o.id;
  return node;
}

async function showObservations() {
  const query = at("query").value.trim();
  const found = query ? (await send("/v1/search", { projectId: project, query, limit: 50 })).observations : await recent();
  at("observations").replaceChildren(...found.map(observationNode));
  if (found.length === 0) at("observations").textContent = query ? "Nothing was found." : "Nothing was noted yet.";
}

function addObservation(o) {
  if (at("query").value.trim()) return; // a search stays as it is
  const list = at("observations");
  if ([...list.children].some((n) => n.dataset.id === o.id)) return;
  if (list.children.length === 0) list.textContent = ""; // says that there is nothing
  const node = observationNode(o);
  node.classList.add("new");
  list.prepend(node);
  while (list.children.length > most) list.lastChild.remove();
}

function keepJob(j) {
  const known = jobs.get(j.id);
  if (known && known.version > j.version) return;
  jobs.delete(j.id); // to the end: the newest
  jobs.set(j.id, j);
  if (jobs.size > most) jobs.delete(jobs.keys().next().value);
}

let drawing = 0;
function drawJobs() {
  if (drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    const only = at("status").value;
    const body = at("jobs");
    body.replaceChildren();
    for (const j of [...jobs.values()].reverse()) {
      if (only && j.status !== only) continue;
      const open = document.createElement("button");
      open.textContent = open.title = j.id;
      open.addEventListener("click", () => openJob(j.id).catch(failed));
      const row = body.insertRow();
      cells(row, open, j.status, j.attempts, new Date(j.at).toLocaleTimeString([], { timeStyle: "medium" }));
      row.cells[1].className = j.status;
    }
  });
}

async function showJobs() {
  jobs.clear();
  const page = await read(`/v1/projects/${encodeURIComponent(project)}/jobs?limit=100`);
  for (const j of page.jobs.reverse()) {
    keepJob({ id: j.id, status: j.status, attempts: j.attempts, at: j.completedAtEpoch ?? j.failedAtEpoch ?? j.createdAtEpoch, version: 0 });
  }
  drawJobs();
}

async function openJob(id) {
  const { generationJob: job, history } = await read(`/v1/jobs/${encodeURIComponent(id)}`);
  opened = id;
  at("job-title").textContent = `${id}: ${job.status}`;
  at("job-error").textContent = job.lastError ?? "";
  at("history").replaceChildren();
  let before = history[0]?.atEpoch;
  for (const e of history) {
    const gap = e.atEpoch - before;
    cells(at("history").insertRow(), e.version, e.type, `${gap < 10000 ? `${gap} ms` : `${Math.round(gap / 1000)} s`}`, e.process ?? e.actor, e.reason);
    before = e.atEpoch;
  }
  at("retry").hidden = job.status !== "failed" && job.status !== "cancelled";
  at("cancel").hidden = job.status !== "queued" && job.status !== "processing";
  if (!at("job").open) at("job").showModal();
}

async function act(what) {
  await send(`/v1/jobs/${encodeURIComponent(opened)}/${what}`, {});
  await openJob(opened);
}

// follow reads the stream until it is stopped, and goes on behind the last id
// when a connection ends.
async function follow(signal) {
  let last = "";
  for (let wait = 1000; !signal.aborted; wait = Math.min(2 * wait, 15000)) {
    try {
      const answer = await call(`/v1/stream?project=${encodeURIComponent(project)}`, { signal, headers: last ? { "Last-Event-ID": last } : {} });
      tell("Live");
      wait = 500;
      let text = "";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const b of blocks) last = await take(b, last);
      }
    } catch (err) {
      if (signal.aborted) return;
      if (err instanceof Refused && err.status < 500 && err.status !== 429) throw err;
    }
    if (signal.aborted) return;
    tell("The connection was lost; trying again …", true);
    await new Promise((go) => setTimeout(go, wait));
  }
}

async function take(block, last) {
  let name = "", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) last = line.slice(4);
    else if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (name === "job") {
    const j = JSON.parse(data);
    keepJob({ id: j.jobId, status: j.status, attempts: j.attempt, at: j.atEpoch, version: j.version });
    drawJobs();
    if (at("job").open && opened === j.jobId) openJob(opened).catch(failed);
  } else if (name === "observation") {
    addObservation(JSON.parse(data));
  } else if (name === "reset") {
    await Promise.all([showJobs(), showObservations()]);
  }
  return last;
}

function failed(err) {
  if (err.name !== "AbortError") tell(err.message, true);
}

async function choose() {
  stop.abort();
  stop = new AbortController();
  project = at("project").value;
  follow(stop.signal).catch(failed); // first, so that nothing falls between it and the lists
  await Promise.all([showJobs(), showObservations()]);
}

async function connect() {
  key = at("key").value.trim();
  const { projects } = await read("/v1/projects");
  sessionStorage.setItem("obs-key", key);
  at("project").replaceChildren(...projects.map((p) => new Option(p.name, p.id)));
  at("projects").hidden = projects.length < 2;
  document.querySelector("main").hidden = projects.length === 0;
  if (projects.length === 0) tell("This team has no project yet.", true); else await choose();
}

const on = (id, event, what) => at(id).addEventListener(event, (e) => {
  e.preventDefault();
  Promise.resolve(what()).catch(failed);
});
on("sign-in", "submit", connect);
on("search", "submit", showObservations);
on("project", "change", choose);
on("status", "change", drawJobs);
on("retry", "click", () => act("retry"));
on("cancel", "click", () => act("cancel"));
on("close", "click", () => at("job").close());

at("key").value = sessionStorage.getItem("obs-key") ?? "";
if (at("key").value) connect().catch(failed);
