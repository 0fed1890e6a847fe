"use strict";
// Asks the server, with the key that a person gave where it needs one.
async function ask(path) {
  const key = sessionStorage.getItem("key");
  const answer = await fetch(path, { headers: key ? { "x-api-key": key } : {} });
  const form = document.getElementById("key");
  form.hidden = answer.status !== 401;
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.json();
}
function whenKeyIsGiven(then) {
  document.getElementById("key").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", event.target.querySelector("input").value);
    then();
  });
}
function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}
