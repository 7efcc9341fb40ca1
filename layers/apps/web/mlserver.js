// The way to mlserver: JSON there, JSON back, and every failure a `Problem` with a remedy.

export class Problem extends Error {
  constructor(status, message, remedy) {
    super(message);
    this.status = status;
    this.remedy = remedy;
  }
}

export class Mlserver {
  /**
   * @param {string} url where it is, without a path
   * @param {number} timeoutMs how long an answer may take
   */
  constructor(url, timeoutMs = 10_000) {
    this.url = url.replace(/\/+$/, '');
    this.timeoutMs = timeoutMs;
    this.lastSeen = 'not asked yet';
  }

  infer(inputs, key) {
    return this.#post('/infer', key ? { inputs, key } : { inputs });
  }

  feedback(id, correct, comment) {
    return this.#post('/feedback', { id, correct, comment });
  }

  async #post(path, body) {
    let response, answer;
    try {
      response = await fetch(this.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(this.timeoutMs),
      });
      answer = await response.json();
    } catch (error) {
      const why = error.cause?.message || error.cause?.code || error.message;
      this.lastSeen = `no answer: ${why}`;
      throw new Problem(502, `mlserver at ${this.url} gives no answer: ${why}`, 'Ask again in a moment.');
    }
    this.lastSeen = `answered ${response.status}`;
    if (!response.ok) {
      const { message = `mlserver answered ${response.status}`, remedy = '' } = answer?.error ?? {};
      throw new Problem(response.status < 500 ? 422 : 502, message, remedy);
    }
    return answer;
  }
}
