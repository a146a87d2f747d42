// The sandbox's page. It shows what the admin API knows, and its buttons call the admin API.
"use strict";

const api = "api/";
const main = document.getElementById("main");
const message = document.getElementById("message");
let current = "";
let shown = ""; // what the section shows, to leave it alone while nothing changes
let queue = Promise.resolve(); // refreshes, one after the other
let waiting = 0; // refreshes that are under way

// make builds an element. Text is never read as HTML.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  for (const child of children) {
    if (child != null) element.append(child);
  }
  return element;
}

function say(text, bad) {
  message.textContent = text;
  message.className = bad ? "bad" : "";
}

async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  const answer = await fetch(api + path, options);
  const out = await answer.json();
  if (!answer.ok) throw new Error(out.error || answer.statusText);
  return out;
}

// act calls the admin API for a button, says what came of it, and shows the section again.
async function act(done, method, path, body) {
  let problem = null;
  try {
    await call(method, path, body);
  } catch (failure) {
    problem = failure;
  }
  shown = "";
  await refresh();
  say(problem ? problem.message : done, problem !== null);
}

function button(label, done, method, path, body) {
  return make("button", { type: "button", onclick: () => act(done, method, path, body) }, label);
}

function table(caption, heads, rows, empty) {
  if (rows.length === 0) return make("p", { class: "empty" }, empty);
  return make("div", { class: "scroll" }, make("table", { "aria-label": caption },
    make("thead", null, make("tr", null, ...heads.map((h) => make("th", { scope: "col" }, h)))),
    make("tbody", null, ...rows.map((cells) => make("tr", null, ...cells.map((cell, i) => {
      const td = make("td", { "data-label": heads[i] || null });
      td.append(...(Array.isArray(cell) ? cell.filter((c) => c != null) : [cell == null ? "" : cell]));
      return td;
    }))))));
}

const short = (id) => (String(id).length > 12 ? String(id).slice(0, 8) + "…" : String(id));
const named = (id) => make("span", { title: id }, short(id));
const when = (text) => (text ? text.slice(11, 19) : "");
const details = (value) => make("details", null, make("summary", null, "Details"),
  make("pre", null, JSON.stringify(value, null, 2)));

const states = {
  session: ["active", "failed", "expired"],
  poll: ["processing", "failed"],
  task: ["suspended", "processing", "failed"],
  result: ["consumed", "expired"],
  subscription: ["active", "deleted"],
  user: ["active", "deactivated", "blocked"],
  source: ["active", "deactivated", "blocked", "locked"],
  key: ["active", "deactivated", "blocked", "expired"],
  storage_config: ["valid", "invalid"],
  webhook_config: ["valid", "invalid"],
};

function setState(kind, id) {
  const choice = make("select", {
    "aria-label": "Set the state of " + kind + " " + id,
    onchange: (event) => {
      const state = event.target.value;
      if (state) act(kind + " " + short(id) + " is set to " + state, "POST",
        "resources/" + kind + "/" + encodeURIComponent(id) + "/state", { state });
    },
  }, make("option", { value: "" }, "set state…"), ...states[kind].map((s) => make("option", { value: s }, s)));
  return choice;
}

function accountForm() {
  const text = make("textarea", { id: "account", "aria-label": "Account as JSON" });
  text.value = '{"identifier": "new@example.com", "password": "hunter2", "code": "123456", "sample": "New"}';
  return make("details", { id: "add-account" }, make("summary", null, "Add or replace an account"), text,
    make("button", { type: "button", id: "save-account", onclick: () => act("The account is saved", "POST", "accounts", text.value) }, "Save"),
    " ", make("button", { type: "button", id: "save-data", onclick: () => act("The data is added", "POST", "accounts/data", text.value) }, "Add its data"));
}

function faultForm() {
  const text = make("textarea", { id: "fault", "aria-label": "Fault as JSON" });
  text.value = '{"operation": "Polls.Create", "status": 503, "count": 2}';
  return make("div", null, text,
    make("button", { type: "button", id: "add-fault", onclick: () => act("The fault is added", "POST", "faults", text.value) }, "Add"), " ",
    make("button", { type: "button", id: "clear-faults", onclick: () => act("There are no faults", "DELETE", "faults") }, "Remove all"));
}

function eventForm() {
  const text = make("textarea", { id: "event", "aria-label": "Event as JSON" });
  text.value = '{"type": "session", "action": "expired", "data": {"id": "x", "resource": "session"}}';
  return make("details", null, make("summary", null, "Fire an event"), text,
    make("button", { type: "button", id: "fire", onclick: () => act("The event is sent", "POST", "events", text.value) }, "Fire"));
}

// Each section reads what it shows, and turns it into elements.
const sections = {
  accounts: {
    read: () => call("GET", "accounts"),
    show: (accounts) => [
      table("Accounts", ["Service", "Identifier", "Password", "Code", "State", "Data", ""], accounts.map((a) => [
        a.service, a.identifier || "any", a.password || "any", a.code, a.locked ? "locked" : a.deactivated ? "deactivated" : "open",
        String(a.data.length + a.info.length) + " types, " + a.files.length + " files",
        a.locked
          ? button("Unlock", a.identifier + " is unlocked", "POST", "accounts/unlock", { service: a.service, identifier: a.identifier })
          : button("Lock", a.identifier + " is locked", "POST", "accounts/lock", { service: a.service, identifier: a.identifier }),
      ]), "There are no accounts."), accountForm()],
  },
  sessions: list("session", ["ID", "State", "Error", "Source", "Created", ""], (x) => [
    named(x.id), x.state, x.error, x.source.identifier, when(x.date_created),
    [x.state === "active" || x.state === "pending"
      ? button("Expire", "The session is expired", "POST", "sessions/" + x.id + "/expire", { cause: "service" }) : null,
    setState("session", x.id)]], "There are no sessions yet. A client makes one with POST /sessions."),
  polls: list("poll", ["ID", "State", "Tasks", "Results", "Errors", "Created", ""], (x) => [
    named(x.id), x.state,
    x.tasks_pending.length + x.tasks_processing.length + x.tasks_suspended.length + " open, " +
      x.tasks_succeeded.length + " good, " + x.tasks_failed.length + " failed",
    x.results.total_count, x.errors.data.map((e) => e.error).join(", "), when(x.date_created),
    setState("poll", x.id)], "There are no polls yet. A client makes one with POST /polls."),
  tasks: list("task", ["ID", "Type", "Target", "State", "Error", ""], (x) => [
    named(x.id), x.type, x.target, x.state, x.error, setState("task", x.id)], "There are no tasks yet."),
  results: list("result", ["ID", "Identifier", "Type", "Size", "State", ""], (x) => [
    named(x.id), x.identifier, x.type, x.size, x.state,
    [button("Remove object", "The object is gone", "DELETE", "results/" + x.id + "/object"),
      button("Corrupt", "The object is other bytes now", "PUT", "results/" + x.id + "/object", "corrupt"),
      setState("result", x.id)]], "There are no results yet."),
  events: list("event", ["ID", "Event", "State", "Retries", "Created", ""], (x) => [
    named(x.id), x.type + "." + x.action, x.state, x.retries, when(x.date_created),
    [button("Resend", "The event is sent again", "POST", "events/" + x.id + "/resend"),
      x.state === "pending" ? button("Drop", "The event is dropped", "POST", "events/" + x.id + "/drop") : null,
      details(x.data)]], "There are no events. They need a webhook config.", eventForm),
  subscriptions: list("subscription", ["ID", "State", "Interval", "Source", ""], (x) => [
    named(x.id), x.state, x.interval, x.source, setState("subscription", x.id)], "There are no subscriptions yet."),
  configs: {
    read: async () => ({
      storage: await call("GET", "resources/storage_config"), webhook: await call("GET", "resources/webhook_config"),
      users: await call("GET", "resources/user"), sources: await call("GET", "resources/source"), keys: await call("GET", "resources/key"),
    }),
    show: (all) => [
      make("h2", null, "Storage configs"), table("Storage configs", ["ID", "URL", "State", ""],
        all.storage.data.map((x) => [x.id, x.url, x.state, setState("storage_config", x.id)]), "There are none."),
      make("h2", null, "Webhook configs"), table("Webhook configs", ["ID", "URL", "State", ""],
        all.webhook.data.map((x) => [x.id, x.url, x.state, setState("webhook_config", x.id)]), "There are none."),
      make("h2", null, "Users"), table("Users", ["ID", "Identifier", "State", ""],
        all.users.data.map((x) => [x.id, x.identifier, x.state, setState("user", x.id)]), "There are none."),
      make("h2", null, "Sources"), table("Sources", ["ID", "Type", "Identifier", "State", ""],
        all.sources.data.map((x) => [x.id, x.type, x.identifier, x.state, setState("source", x.id)]), "There are none."),
      make("h2", null, "Keys"), table("Keys", ["ID", "Type", "State", ""],
        all.keys.data.map((x) => [x.id, x.type, x.state, setState("key", x.id)]), "There are none.")],
  },
  faults: {
    read: () => call("GET", "faults"),
    show: (faults) => [table("Faults", ["Fault"], faults.map((f) => [JSON.stringify(f)]), "There are no faults."), faultForm()],
  },
  journal: {
    read: () => call("GET", "calls?limit=200"),
    show: (journal) => {
      const calls = journal.calls.slice().reverse();
      return [
        make("p", null, String(journal.total_count) + " calls ",
          make("button", { type: "button", id: "clear-calls", onclick: () => act("The journal is empty", "DELETE", "calls") }, "Clear")),
        table("Journal", ["#", "Time", "Request", "Operation", "Status", "Bodies"], calls.map((c) => [
          c.number, when(c.time), c.method + " " + c.path, c.operation,
          make("span", { class: c.status >= 400 || c.status === 0 ? "bad" : null }, c.status || "none"),
          c.request == null && c.response == null ? "" : details({ request: c.request, response: c.response }),
        ]), "There are no calls yet.")];
    },
  },
};

// list is a section of one kind of resource.
function list(kind, heads, row, empty, below) {
  return {
    read: () => call("GET", "resources/" + kind + "?limit=1000"),
    show: (found) => [
      make("p", null, found.data.length < found.total_count
        ? "The newest " + found.data.length + " of " + found.total_count : String(found.total_count) + " in all"),
      table(kind, heads, found.data.map(row), empty), below ? below() : null],
  };
}

function writing() {
  const focused = document.activeElement;
  return main.contains(focused) && /^(TEXTAREA|SELECT|INPUT)$/.test(focused.tagName) ||
    main.querySelector("details[open]") !== null;
}

// refresh shows the section as it is now, after any refresh that is under way.
function refresh() {
  queue = queue.then(refreshOnce);
  return queue;
}

async function refreshOnce() {
  waiting++;
  try {
    showStatus(await call("GET", "status"));
    const name = current;
    const found = await sections[name].read();
    const now = name + JSON.stringify(found);
    if (now !== shown && name === current && !(shown !== "" && writing())) {
      const refocus = main.contains(document.activeElement);
      main.replaceChildren(...sections[name].show(found).filter((e) => e != null));
      main.dataset.section = name;
      shown = now;
      if (refocus) main.focus();
    }
  } catch (problem) {
    say("The sandbox does not answer: " + problem.message, true);
  } finally {
    waiting--;
  }
}

function showStatus(status) {
  const facts = {
    API: status.url, Storage: status.storage_url, Token: status.token, Generation: status.generation,
    Time: status.time.slice(0, 19) + "Z", Faults: status.faults, Version: status.version,
  };
  document.getElementById("status").replaceChildren(...Object.entries(facts).map(([name, value]) =>
    make("div", null, make("dt", null, name), make("dd", null, String(value)))));
}

async function open(name) {
  current = name;
  shown = "";
  for (const tab of document.querySelectorAll("#tabs button")) {
    if (tab.dataset.section === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  history.replaceState(null, "", "#" + name);
  await refresh();
}

async function begin() {
  document.getElementById("tabs").append(...Object.keys(sections).map((name) =>
    make("li", null, make("button", { type: "button", "data-section": name, onclick: () => open(name) },
      name[0].toUpperCase() + name.slice(1)))));
  document.getElementById("reset").onclick = () => act("The sandbox is as it was at the start", "POST", "reset", { seed: 1 });
  document.getElementById("advance").onclick = () =>
    act("The clock is ahead", "POST", "clock/advance", { by: document.getElementById("by").value });
  const scenario = document.getElementById("scenario");
  document.getElementById("play").onclick = () => {
    if (scenario.value) act("The scenario is set up", "POST", "scenarios", { name: scenario.value });
    else say("Choose a scenario first", true);
  };
  document.getElementById("load").onchange = async (event) => {
    const file = event.target.files[0];
    if (file) await act("The state is loaded", "PUT", "state", await file.text());
    event.target.value = "";
  };
  const wanted = location.hash.slice(1);
  await open(sections[wanted] ? wanted : "accounts");
  for (const s of await call("GET", "scenarios")) {
    scenario.append(make("option", { value: s.name, title: s.description }, s.name));
  }
  setInterval(() => { if (!document.hidden && waiting === 0) refresh(); }, 1000);
}

begin();
