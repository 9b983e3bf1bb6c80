// What the server makes of buttons, lists and fields is plain HTML. This turns a press of one into
// an event that says what to do with what: {do, key}, with what was typed as {text}.
// Runs once for each element of the page that has such buttons; 'click', 'ask', 'open'
// and 'save' are the events they become.
const control = event => event.target.closest?.('[data-do]');
const same = (one, other) => one && other && one.dataset.do === other.dataset.do
  && one.dataset.key === other.dataset.key;

const send = (from, text) => trigger(from.dataset.on || 'click',
  {do: from.dataset.do, key: from.dataset.key, text: text ?? ''});

let asked = -Infinity;
const press = pressed => {
  if (pressed.dataset.edits) return edit(pressed);
  if (pressed.dataset.on === 'copy') return copy(pressed);
  if (pressed.dataset.on === 'ask') {  // twice is once
    if (performance.now() - asked < 500) return;
    asked = performance.now();
  }
  send(pressed);
};

// The text beside a button is changed in place. Enter takes it, Escape leaves it as it was.
const edit = button => {
  let place = button.parentElement;
  while (place !== element && !place.querySelector('.editable')) place = place.parentElement;
  const text = place.querySelector('.editable');
  if (!text || place.querySelector('form.edit')) return;
  const form = document.createElement('form');
  form.className = 'edit';
  const field = document.createElement('textarea');
  field.value = text.textContent;
  field.dir = 'auto';
  field.rows = Math.min(6, 1 + Math.floor(field.value.length / 60));
  field.setAttribute('aria-label', button.dataset.edits);
  const [ok, cancel] = ['ok', 'cancel'].map(kind => {
    const made = document.createElement('button');
    made.type = kind === 'ok' ? 'submit' : 'button';
    made.className = 'text';
    made.textContent = button.dataset[kind];
    return made;
  });
  const leave = () => {
    form.remove();
    text.hidden = text.dataset.empty !== undefined;
    button.focus();
  };
  const take = event => {
    event?.preventDefault();
    const typed = field.value.trim();
    leave();
    if (typed !== text.textContent.trim()) send(button, typed);
  };
  form.addEventListener('submit', take);
  cancel.addEventListener('click', leave);
  field.addEventListener('keydown', event => {
    event.stopPropagation();
    if (event.key === 'Escape') leave();
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) take(event);
  });
  form.append(field, ok, cancel);
  text.hidden = true;
  text.after(form);
  field.focus();
  field.select();
};

const copy = async button => {
  const answer = button.closest('.answer').cloneNode(true);
  answer.querySelectorAll('.cite').forEach(mark => mark.remove());
  const text = [...answer.querySelectorAll('.said')].map(block => block.innerText.trim()).join('\n\n');
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a page that is not served safely has no clipboard
    const field = document.createElement('textarea');
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
  }
  button.classList.add('done');
  setTimeout(() => button.classList.remove('done'), 1500);
};

// What is shown is made anew while it grows: a button may be another one when it is let go, and
// the one that had the focus gets it back.
let down = null, focused = null;
element.addEventListener('pointerdown', event => { down = event.button ? null : control(event); });
element.addEventListener('pointerup', event => {
  const up = control(event);
  if (up?.matches('button') && same(down, up)) press(up);
});
element.addEventListener('click', event => {
  const pressed = control(event);
  if (!event.detail && pressed?.matches('button')) press(pressed);
});
element.addEventListener('change', event => {
  const list = control(event);
  if (!list?.matches('select') || !list.value) return;
  const chosen = list.value;
  list.value = '';
  if (chosen === '…') edit(list);
  else send(list, chosen);
});
document.addEventListener('focusin', event => {
  focused = element.contains(event.target) ? control(event) : null;
});
document.addEventListener('pointerdown', () => { focused = null; });
new MutationObserver(() => {
  if (!focused || focused.isConnected) return;
  [...element.querySelectorAll('[data-do]')].find(other => same(focused, other))?.focus();
}).observe(element, {childList: true, subtree: true});
