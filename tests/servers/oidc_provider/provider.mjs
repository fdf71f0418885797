// oidc-provider with everybody signed in at once, rotation with reuse detection, and a clock that tests move.
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const { port, client, people } = JSON.parse(process.argv[2]);
let ahead = 0;
let person = Object.keys(people)[0];
const real = Date.now;
Date.now = () => real() + ahead * 1000;

const hours = 3600;
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client],
  claims: { openid: ["sub"], profile: ["name", "preferred_username", "groups"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  findAccount: (_ctx, sub) => people[sub] && { accountId: sub, claims: () => ({ sub, ...people[sub] }) },
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  features: {
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
  },
  interactions: { url: (_ctx, interaction) => `/now/${interaction.uid}` },
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ accountId: ctx.oidc.session.accountId, clientId: client.client_id });
    grant.addOIDCScope("openid profile email");
    await grant.save();
    return grant;
  },
  ttl: {
    AccessToken: 600, AuthorizationCode: 60, IdToken: 600, RefreshToken: 8 * hours, Grant: 48 * hours,
    Session: 48 * hours, Interaction: 600,
  },
});

createServer(async (request, response) => {
  const url = new URL(request.url, `http://127.0.0.1:${port}`);
  if (url.pathname === "/control") {
    ahead += Number(url.searchParams.get("ahead_s") ?? 0);
    person = url.searchParams.get("person") ?? person;
    const claims = url.searchParams.get("claims");
    if (claims) people[person] = JSON.parse(claims);
    if (url.searchParams.has("gone")) delete people[person];
    response.end("{}");
  } else if (url.pathname.startsWith("/now/")) {
    await provider.interactionFinished(request, response, { login: { accountId: person } });
  } else {
    provider.callback()(request, response);
  }
}).listen(port, "127.0.0.1");
