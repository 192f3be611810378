// Every page works without scripts; each module here makes one thing of it nicer.
import { askBeforeSending, dialogs } from "./dialogs.js";
import { choices } from "./choices.js";
import { codes } from "./codes.js";
import { copying } from "./copying.js";
import { localTimes } from "./times.js";
import { reveal } from "./reveal.js";
import { selection } from "./selection.js";
import { suggestions } from "./suggestions.js";
import { timeLeft } from "./timeleft.js";
import { typeBack } from "./passphrase.js";
import { dropAnywhere, uploads } from "./uploads.js";
import { work } from "./work.js";

// Also called for what a dialog has loaded.
function enhance(root) {
  for (const feature of [localTimes, suggestions, reveal, choices, copying, uploads, askBeforeSending]) feature(root);
}

enhance(document);
timeLeft();
codes();
typeBack();
dialogs(enhance);
selection();
dropAnywhere();
work(document);
