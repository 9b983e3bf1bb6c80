() => {
  // Gradio tells the language of its own texts, which it has in more languages than we have.
  const language = navigator.language.split('-')[0];
  document.documentElement.lang = LANGUAGES.includes(language) ? language : 'en';

  // Where the list would cover the conversation, it is opened only when asked for.
  const uncover = () => {
    if (window.innerWidth <= 900) document.querySelector('#left.open .toggle-button')?.click();
  };
  uncover();
  document.querySelector('#conversations').addEventListener('click', event => {
    if (event.target.closest('[data-do="new"], [data-do="show"]')) uncover();
  });

  // Gradio's field has no name, and takes every script to run from left to right.
  const field = document.querySelector('#box textarea');
  field.dir = 'auto';
  field.setAttribute('aria-label', document.querySelector('#box [data-testid="block-info"]').textContent);

  // Who presses twice asks once.
  let asked = {text: '', at: 0};
  const once = event => {
    const key = event.target === field && event.key === 'Enter' && !event.shiftKey;
    if (event.isComposing || !key && !event.target.closest('#box .submit-button')) return;
    if (field.value === asked.text && event.timeStamp - asked.at < 500) {
      event.preventDefault();
      event.stopImmediatePropagation();
    } else asked = {text: field.value, at: event.timeStamp};
  };
  for (const kind of ['keydown', 'click']) window.addEventListener(kind, once, {capture: true});

  // A mark, its sentence and its place in the document light up together: those that are pointed
  // at, and those that the panel shows. By a rule instead of a class: what is shown is made anew
  // while it grows.
  const rule = document.head.appendChild(document.createElement('style'));
  let opened = '', over = '';
  const light = () => {
    const lit = key => `[data-cite="${CSS.escape(key)}"]`;
    rule.textContent = [opened, over].filter(Boolean).map(key =>
      `.sentence${lit(key)} { background: var(--lit) !important; }`
      + `.cite${lit(key)} { outline: 2px solid var(--primary-500); }`
    ).join('') + (over ? `.spot${lit(over)} { background: var(--spot-lit) !important; }` : '');
  };
  const cited = event => event.target.closest?.('[data-cite]')?.dataset.cite ?? '';
  document.addEventListener('pointerover', event => { over = cited(event); light(); });
  document.addEventListener('focusin', event => { over = cited(event); light(); });

  // Seconds since something began to be done.
  const since = new WeakMap();
  setInterval(() => {
    for (const shown of document.querySelectorAll('#chat .seconds')) {
      const answer = shown.closest('.answer') ?? shown;
      if (!since.has(answer)) since.set(answer, performance.now());
      shown.textContent = ` ${((performance.now() - since.get(answer)) / 1000).toFixed(1)} s`;
    }
  }, 100);

  // The panel beside the answer: the focus goes to what was opened, and back when it is closed.
  // Within what is open (another page, more text) focus and place stay.
  const right = document.querySelector('#right');
  const panel = document.querySelector('#panel');
  const spot = () => panel.querySelector('.spot');
  const name = button => button.getAttribute('aria-label') ?? button.textContent;
  let opener = null, pressed = '', height = null, shown = '';
  const close = () => panel.querySelector('[data-do="close"]')?.click();
  document.addEventListener('click', event => {
    const from = event.target.closest?.('[data-do]');
    if (!from) return;
    if (from.dataset.on === 'open' && from.closest('#chat')) opener = {...from.dataset};
    if (!from.closest('#panel')) return;
    pressed = name(from);
    height = spot()?.getBoundingClientRect().top;
    if (from.dataset.do === 'close') right.classList.remove('open');  // the server follows
  }, {capture: true});
  document.addEventListener('keydown', event => { if (event.key === 'Escape') close(); });
  new MutationObserver(() => {
    const now = panel.querySelector('[data-view]')?.dataset.view ?? '';
    if (now === shown) return;
    const what = view => view.replace(/( \d+){4}$/, '');
    const same = now && what(now) === what(shown);
    shown = now;
    right.classList.toggle('open', Boolean(now));
    opened = panel.querySelector('[data-cite]')?.dataset.cite ?? '';
    light();
    if (same) {
      if (spot() && height) right.scrollTop += spot().getBoundingClientRect().top - height;
      [...panel.querySelectorAll('button:enabled')].find(other => name(other) === pressed)?.focus();
    } else if (now) {
      right.scrollTop = 0;
      spot()?.scrollIntoView({block: 'center'});
      panel.querySelector('[data-do="close"]')?.focus({preventScroll: true});
    } else if (opener) {
      document.querySelector(
        `#chat [data-do="${opener.do}"][data-key="${CSS.escape(opener.key)}"]`)?.focus();
    }
  }).observe(panel, {childList: true, subtree: true, attributes: true});
}
