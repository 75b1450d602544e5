// The page of a hierarchy: one of many pictures is shown, by temperature, group and test image.

const $ = (id) => document.getElementById(id);
const payload = JSON.parse($("payload").textContent);

function show() {
  const at = payload.temperatures[Number($("temperature").value)];
  const group = Number($("group").value), subject = Number($("subject").value);
  const prior = group < 0;
  $("T").textContent = at.T;
  $("subject").disabled = prior;
  $("shown").src = prior ? at.prior : at.groups[subject][group];
  $("caption").textContent = prior
    ? `${payload.drawn} draws of all groups at T = ${at.T}.`
    : `From the left: ${payload.subjects[subject]}; E[x | z] at the means of q; ${payload.changed} ` +
      `times with group ${payload.groups[group]} and all finer ones drawn at T = ${at.T}.`;
  $("shown").alt = $("caption").textContent;
}

payload.subjects.forEach((name, i) => $("subject").append(new Option(name, i)));
$("group").append(new Option("all groups, from the prior", -1));
payload.groups.forEach((name, i) => $("group").append(new Option(name, i)));
$("temperature").max = payload.temperatures.length - 1;
$("temperature").value = payload.temperatures.length - 1;
for (const id of ["temperature", "group", "subject"]) $(id).addEventListener("input", show);
show();
window.explorer = { payload, show };
