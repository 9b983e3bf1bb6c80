() => {
  // When the server cannot be reached, or is another process than before, that is said in the
  // language of the page; once it is back the page is loaded again, with what was typed.
  const config = window.gradio_config;
  const banner = document.body.appendChild(document.createElement('div'));
  Object.assign(banner, {id: 'lost', hidden: true});
  banner.setAttribute('role', 'alert');

  const server = async () => {
    try {
      const address = `${config.root}${config.api_prefix}/app_id`;
      const answer = await fetch(address, {cache: 'no-store', signal: AbortSignal.timeout(10_000)});
      return answer.ok ? (await answer.json()).app_id : null;
    } catch {
      return null;
    }
  };
  let broken = false, asked = false, looking = false, changed = '';
  const look = async () => {
    if (looking) return;
    looking = true;
    let found;
    while (!(found = await server())) {
      broken ||= asked;  // it may not have arrived
      banner.textContent = LOST;
      banner.hidden = false;
      await new Promise(done => setTimeout(done, 1000));
    }
    // What has just been asked is answered by another process as well.
    if (broken || (found !== config.app_id && !asked)) return location.reload();
    banner.hidden = true;
    changed = '';
    asked = looking = false;
  };
  const breaks = () => { broken = true; look(); };
  for (const kind of ['online', 'offline']) window.addEventListener(kind, look);
  for (const kind of ['visibilitychange', 'resume']) document.addEventListener(kind, look);

  // Gradio says so in English, in a note that stays: for one who is logged in no more, only that.
  new MutationObserver(() => {
    for (const note of document.querySelectorAll('.toast-body')) {
      if (!/Connection to the server was lost|Log in first/.test(note.textContent)) continue;
      note.hidden = true;
      breaks();
    }
  }).observe(document.body, {childList: true, subtree: true});

  // A connection can be gone without a word. While an answer is being written something comes each
  // second; a page that was asleep itself is given as long again.
  const chat = document.querySelector('#chat');
  let heard = performance.now(), ticked = heard;
  setInterval(() => {
    const now = performance.now();
    if (now - ticked > 5000 || !chat.querySelector('.writing')) heard = now;
    ticked = now;
    if (now - Math.max(heard, chat.heard ?? 0) > 15_000) breaks();
  }, 1000);

  // What is asked may not arrive. A question that is being changed is not in its form any more then.
  const field = document.querySelector('#box textarea');
  const asks = event => {
    const pressed = event.target.closest?.('#box .submit-button, [data-on="ask"], form.edit [type=submit]');
    const entered = event.target.closest?.('#box textarea, form.edit textarea');
    const enters = event.key === 'Enter' && !event.shiftKey && !event.isComposing;
    if (event.type === 'click' ? !pressed : !(entered && enters)) return;
    changed = event.target.closest('form.edit')?.querySelector('textarea').value ?? '';
    asked = true;
    look();
  };
  for (const kind of ['click', 'keydown']) document.addEventListener(kind, asks, {capture: true});

  // What is typed stays over a reload, in this tab and for the same person.
  const who = config.username ?? '';
  try {
    window.addEventListener('pagehide', () => {
      const text = field.value || chat.querySelector('form.edit textarea')?.value || changed;
      if (text) sessionStorage.setItem('typed', JSON.stringify([who, text]));
    });
    const [whose, text] = JSON.parse(sessionStorage.getItem('typed')) ?? [];
    sessionStorage.removeItem('typed');
    if (text && whose === who && !field.value) {
      field.value = text;
      field.dispatchEvent(new Event('input', {bubbles: true}));
    }
  } catch {}  // in a frame of another site there may be no such storage
}
