// The one page, as text. Everything that comes from outside goes through `escaped`.

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600; }
textarea, input[type=text] { width: 100%; box-sizing: border-box; font: inherit; padding: .5rem; }
textarea { font-family: ui-monospace, monospace; }
button { margin: 1rem .5rem 0 0; padding: .5rem 1rem; font: inherit; }
section { margin-top: 2rem; padding: 1rem; border: 1px solid #8888; border-radius: .5rem; }
pre { overflow-x: auto; }
.problem { border-color: #c33; }
`;

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export function escaped(text) {
  return String(text).replace(/[&<>"']/g, (character) => ENTITIES[character]);
}

/** The page with the form as it was sent, and below it what came of it. */
export function page({ title, inputs, key = '', answer, problem, thanks }) {
  const below = [answer && answered(answer, { inputs, key }), problem && failed(problem), thanks && thanked()];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escaped(title)}</h1>
<form method="post" action="/ask">
<label for="inputs">Rows, as JSON</label>
<textarea id="inputs" name="inputs" rows="6" required>${escaped(inputs)}</textarea>
<label for="key">Key (the same key is answered by the same model)</label>
<input id="key" name="key" type="text" maxlength="256" value="${escaped(key)}">
<button type="submit">Ask</button>
</form>
${below.filter(Boolean).join('\n')}
</body>
</html>
`;
}

function answered({ id, model, predictions }, { inputs, key }) {
  const hidden = Object.entries({ id, inputs, key })
    .map(([name, value]) => `<input type="hidden" name="${name}" value="${escaped(value)}">`)
    .join('\n');
  return `<section id="answer">
<h2>Answer</h2>
<pre id="predictions">${escaped(JSON.stringify(predictions, null, 1))}</pre>
<p>From <strong id="model">${escaped(model.name)}@${escaped(model.alias)}</strong>, version ${escaped(model.version)}.</p>
<form method="post" action="/feedback">
${hidden}
<label for="comment">What do you think of it?</label>
<input id="comment" name="comment" type="text" maxlength="2000">
<button type="submit" name="correct" value="true">It is right</button>
<button type="submit" name="correct" value="false">It is wrong</button>
</form>
</section>`;
}

function failed({ message, remedy }) {
  return `<section id="problem" class="problem" role="alert">
<h2>That did not work</h2>
<p>${escaped(message)}</p>
<p>${escaped(remedy)}</p>
</section>`;
}

function thanked() {
  return '<section id="thanks" role="status"><p>Thank you: your feedback is on its way.</p></section>';
}
