// Show times in the person's own zone; the page has them in UTC. Times typed into a form are sent in UTC.

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function pad(number) {
  return String(number).padStart(2, "0");
}

function forInput(moment) {
  const day = `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())}`;
  return `${day}T${pad(moment.getHours())}:${pad(moment.getMinutes())}`;
}

function showLocal(time) {
  const moment = new Date(time.dateTime);
  if (Number.isNaN(moment.getTime())) return;
  time.title = time.textContent;
  time.textContent = (time.dataset.form === "date" ? DAY : MOMENT).format(moment);
}

function typeLocal(input) {
  const help = document.getElementById(`${input.id}-help`) || input.closest(".field").querySelector(".form-text");
  if (help) help.textContent = input.dataset.localTime;
  const before = input.getAttribute("value");
  if (before) input.value = forInput(new Date(before.endsWith("Z") ? before : `${before}Z`));
  input.form.addEventListener("formdata", (event) => {
    const typed = event.formData.get(input.name);
    if (typed) event.formData.set(input.name, new Date(typed).toISOString().replace(/\.\d+Z$/, "Z"));
  });
}

export function localTimes(root) {
  root.querySelectorAll("time[datetime]").forEach(showLocal);
  root.querySelectorAll("input[data-local-time]").forEach(typeLocal);
}
