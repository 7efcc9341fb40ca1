// A form that asks mlserver, shows the answer, and sends what people think of it. Settings come from the environment:
// PORT, WEB_TITLE, WEB_SAMPLE (the rows that the form begins with), MLSERVER_URL, WEB_VERSION, WEB_IMAGE.

import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

import { Mlserver, Problem } from './mlserver.js';
import { page } from './page.js';

const MAX_BODY_BYTES = 256 * 1024;
const SAMPLE = '[{"x": 1.0}]';
const HEADERS = {
  'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
};

export function settings(environment) {
  const port = Number(environment.PORT || 3000);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new Error(`PORT is ${environment.PORT}: write a port, as 3000`);
  }
  if (!URL.canParse(environment.MLSERVER_URL ?? '')) {
    throw new Error(`MLSERVER_URL is ${environment.MLSERVER_URL || 'not set'}: write where mlserver is, as http://mlserver:8000`);
  }
  return {
    port,
    mlserverUrl: environment.MLSERVER_URL,
    title: environment.WEB_TITLE || 'Ask the models',
    sample: environment.WEB_SAMPLE || SAMPLE,
    version: environment.WEB_VERSION || 'unreleased',
    image: environment.WEB_IMAGE || '',
  };
}

export function createApp({ mlserverUrl, title, sample, version, image }) {
  const mlserver = new Mlserver(mlserverUrl);

  const routes = {
    'GET /': () => html(200, { title, inputs: sample }),
    // About this server alone: with mlserver away it still answers, and says so.
    'GET /health': () => json(200, { status: 'ok', mlserver: mlserver.lastSeen }),
    'GET /version': () => json(200, { version, image }),
    'POST /ask': async (form) => {
      const inputs = form.get('inputs') ?? '';
      const key = form.get('key') ?? '';
      return shown({ title, inputs, key }, async () => ({ answer: await mlserver.infer(parsed(inputs), key) }));
    },
    'POST /feedback': async (form) => {
      const inputs = form.get('inputs') || sample;
      const key = form.get('key') ?? '';
      return shown({ title, inputs, key }, async () => {
        await mlserver.feedback(form.get('id') ?? '', form.get('correct') === 'true', form.get('comment') ?? '');
        return { thanks: true };
      });
    },
  };

  return createServer({ requestTimeout: 30_000 }, async (request, response) => {
    let answer;
    try {
      const path = request.url.split('?')[0];
      const route = routes[`${request.method} ${path}`];
      if (!route) {
        answer = json(404, { error: { code: 'not_found', message: `${request.method} ${path}`, remedy: 'The form is at /.' } });
      } else {
        answer = await route(request.method === 'POST' ? await formOf(request) : undefined);
      }
    } catch (error) {
      if (!(error instanceof Problem)) console.error(error);
      answer = json(error.status ?? 500, {
        error: { code: 'failed', message: error.message, remedy: error.remedy ?? "The server's log tells more." },
      });
    }
    response.writeHead(answer.status, { ...HEADERS, 'content-type': answer.type, ...(answer.status === 413 && { connection: 'close' }) });
    response.end(answer.body);
  });
}

async function shown(fields, doing) {
  try {
    return html(200, { ...fields, ...(await doing()) });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return html(error.status, { ...fields, problem: error });
  }
}

function parsed(text) {
  let rows;
  try {
    rows = JSON.parse(text);
  } catch (error) {
    throw new Problem(422, `the rows are not JSON: ${error.message}`, `Write a list of rows, as ${SAMPLE}.`);
  }
  if (!Array.isArray(rows)) throw new Problem(422, 'the rows are not a list', `Write a list of rows, as ${SAMPLE}.`);
  return rows;
}

async function formOf(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MAX_BODY_BYTES) throw new Problem(413, `the request is larger than ${MAX_BODY_BYTES} bytes`, 'Send fewer rows.');
    parts.push(part);
  }
  return new URLSearchParams(Buffer.concat(parts).toString('utf8'));
}

function html(status, fields) {
  return { status, type: 'text/html; charset=utf-8', body: page(fields) };
}

function json(status, value) {
  return { status, type: 'application/json', body: JSON.stringify(value) };
}

function main() {
  let wanted;
  try {
    wanted = settings(process.env);
  } catch (error) {
    console.error(`web: ${error.message}`);
    process.exit(2);
  }
  const server = createApp(wanted);
  server.on('error', (error) => {
    console.error(`web: ${error.message}`);
    process.exit(1);
  });
  server.listen(wanted.port, process.env.WEB_HOST, () => console.log(`web ${wanted.version} listens on ${server.address().port}`));
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => {
      server.close(() => process.exit(0));
      server.closeIdleConnections();
      setTimeout(() => process.exit(0), 8000).unref();
    });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main();
