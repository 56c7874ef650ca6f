// The README's first approval with openapi-fetch and the types of openapi-typescript.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
const [baseUrl, username, password, company] = process.argv.slice(2) as [string, string, string, string];
const registration: components["schemas"]["CandidateRegistration"] = JSON.parse(company);

const anonymous = createClient<paths>({ baseUrl });
const login = await anonymous.POST("/auth/login", { body: { username, password } });
if (!login.data) throw new Error(login.error.detail);

// `phone` and `location` may be left out.
const invalid = await anonymous.POST("/candidates", {
  body: { company_name: "", contact_email: "x", products: ["apples"], truck_count: 1, capacity_tons_per_day: 1 },
});
const codes = invalid.error?.errors?.map((error) => error.code);
const registered = await anonymous.POST("/candidates", { body: registration });
if (!registered.data) throw new Error(registered.error.detail);

const staff = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${login.data.access_token}` } });
const listed = await staff.GET("/candidates", { params: { query: { status: "pending", limit: 1 } } });
if (!listed.data) throw new Error(listed.error.detail);
const candidate_id = listed.data.candidates[0]!.candidate_id;

const path = { candidate_id };
const approved = await staff.POST("/candidates/{candidate_id}/approve", {
  params: { path, header: { "If-Match": registered.response.headers.get("ETag")! } },
});
if (!approved.data) throw new Error(approved.error.detail);
const read = await staff.GET("/candidates/{candidate_id}", { params: { path } });
const events = await staff.GET("/candidates/{candidate_id}/events", { params: { path, query: { limit: 1 } } });
const cursor = events.data?.pagination.next_cursor;
if (!cursor) throw new Error("there is no older event");
const older = await staff.GET("/candidates/{candidate_id}/events", { params: { path, query: { cursor } } });

console.log(
  JSON.stringify({
    codes,
    registered: registered.data.candidate_id,
    listed: candidate_id,
    approved: approved.data.provider_id,
    read: read.data?.status,
    events: [...events.data!.events, ...older.data!.events].slice(0, 2).map((event) => event.type),
  }),
);
