// Requests to the REST API of the same origin.

export class RestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, options = {}) {
  const response = await fetch(`/api/v1${path}`, { ...options, cache: "no-store" });
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new RestError(response.status, body?.error?.message ?? `${path}: status ${response.status}`);
  }
  return response.json();
}

export const send = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const endpointPath = (name) => `/endpoints/${encodeURIComponent(name)}`;

// An operation that this kind of installation may lack: asked for until it is refused with 501.
export function optional(request) {
  let refusal = "";
  return {
    get refusal() { return refusal; },
    async ask(...parameters) {
      if (refusal) return null;
      try {
        return await request(...parameters);
      } catch (error) {
        if (error.status !== 501) throw error;
        refusal = error.message;
        return null;
      }
    },
  };
}
