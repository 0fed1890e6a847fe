"use strict";
function operation(path, method, said) {
  const made = document.createElement("section");
  const head = document.createElement("h2");
  head.append(element("span", method.toUpperCase(), "method"), element("code", path));
  made.append(head, element("p", said.summary));
  for (const [kind, body] of Object.entries(said.requestBody?.content ?? {})) {
    made.append(element("p", `takes ${kind}`, "note"));
    if (Object.keys(body.schema).length) made.append(element("pre", JSON.stringify(body.schema, null, 2)));
  }
  const scroll = element("div", "", "scroll");
  const table = element("table", "", "plain");
  for (const [status, response] of Object.entries(said.responses)) {
    const row = document.createElement("tr");
    row.append(element("td", status), element("td", response.description));
    table.append(row);
  }
  scroll.append(table);
  made.append(scroll);
  return made;
}
async function show() {
  const state = document.getElementById("state");
  try {
    const said = await ask("/openapi.json");
    document.getElementById("name").textContent = said.info.title;
    const found = Object.entries(said.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, each]) => operation(path, method, each)));
    document.getElementById("main").replaceChildren(...found);
    state.textContent = "";
  } catch (error) {
    state.textContent = error.message;
    state.className = "bad";
  }
}
whenKeyIsGiven(show);
show();
