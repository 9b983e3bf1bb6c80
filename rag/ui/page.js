() => {
  // Gradio tells the language of its own texts, which it has in more languages than we have.
  const language = navigator.language.split('-')[0];
  document.documentElement.lang = LANGUAGES.includes(language) ? language : 'en';

  // Where the list would cover the conversation, it is opened only when asked for.
  if (window.innerWidth <= 900) document.querySelector('#left.open .toggle-button')?.click();

  // A mark, its sentence and the place in the document light up together. By a rule instead of a
  // class: what is shown is made anew while it grows.
  const rule = document.head.appendChild(document.createElement('style'));
  let chosen = '', over = '';
  const light = () => {
    const lit = key => `[data-cite="${CSS.escape(key)}"]`;
    rule.textContent = [chosen, over].filter(Boolean).map(key =>
      `.sentence${lit(key)}, mark${lit(key)} { background: var(--lit) !important; }`
      + `.cite${lit(key)} { outline: 2px solid var(--primary-500); }`
    ).join('\n');
  };
  const cited = event => event.target.closest?.('[data-cite]')?.dataset.cite ?? '';
  document.addEventListener('pointerover', event => { over = cited(event); light(); });
  document.addEventListener('focusin', event => { over = cited(event); light(); });
  document.addEventListener('click', event => {
    if (cited(event)) { chosen = cited(event); light(); }
  });

  // Seconds since something began to be done.
  const since = new WeakMap();
  setInterval(() => {
    for (const shown of document.querySelectorAll('#chat .seconds')) {
      const answer = shown.closest('.answer') ?? shown;
      if (!since.has(answer)) since.set(answer, performance.now());
      shown.textContent = ` ${((performance.now() - since.get(answer)) / 1000).toFixed(1)} s`;
    }
  }, 100);

  // The panel beside the answer: focus goes to what was opened, and back when it is closed.
  let opener = null;
  document.addEventListener('click', event => {
    const from = event.target.closest?.('[data-on="open"]');
    if (from && from.closest('#chat')) opener = {do: from.dataset.do, key: from.dataset.key};
  });
  document.addEventListener('keydown', event => {
    if (event.key === 'Escape') document.querySelector('#panel [data-do="close"]')?.click();
  });
  const panel = document.querySelector('#panel');
  let shown = '';
  new MutationObserver(() => {
    const now = panel.querySelector('[data-view]')?.dataset.view ?? '';
    document.querySelector('#right')?.classList.toggle('open', Boolean(now));
    if (now === shown) return;
    shown = now;
    if (now) {
      const spot = panel.querySelector('.spot');
      const picture = panel.querySelector('img');
      const go = () => spot?.scrollIntoView({block: 'center'});
      go();
      if (picture && !picture.complete) picture.addEventListener('load', go);
      panel.querySelector('[data-do="close"]')?.focus({preventScroll: true});
    } else if (opener) {
      document.querySelector(
        `#chat [data-do="${opener.do}"][data-key="${CSS.escape(opener.key)}"]`)?.focus();
    }
  }).observe(panel, {childList: true, subtree: true, attributes: true});
}
