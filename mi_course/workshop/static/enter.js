"use strict";
// The secret stands behind #, which browsers send to no server. It is exchanged for a cookie, and leaves the address bar.
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const said = document.getElementById("said");
fetch("enter", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ token }),
})
  .then(async (reply) => {
    const answer = await reply.json();
    if (!reply.ok) throw new Error(token ? answer.error : "This page needs the whole link, with what stands behind the #.");
    location.replace(answer.page);
  })
  .catch((error) => { said.textContent = error.message || "The board does not answer."; });
