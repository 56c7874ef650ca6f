// The README's first approval with the client that openapi-generator writes (typescript-fetch).
import {
  AuthApi,
  CandidateRegistrationFromJSON,
  CandidatesApi,
  ApprovalsApi,
  Configuration,
  ResponseError,
  Status,
} from "./generated/index.js";

declare const process: { argv: string[] };
const [basePath, username, password, company] = process.argv.slice(2) as [string, string, string, string];

const anonymous = new Configuration({ basePath });
const tokens = await new AuthApi(anonymous).login({ loginRequest: { username, password } });

const codes = await new CandidatesApi(anonymous)
  .registerCandidate({
    candidateRegistration: {
      companyName: "",
      contactEmail: "x",
      products: new Set(["apples"]),
      truckCount: 1,
      capacityTonsPerDay: 1,
    },
  })
  .catch(async (error: ResponseError) => {
    const problem: { errors: { code: string }[] } = await error.response.json();
    return problem.errors.map((each) => each.code);
  });
const registered = await new CandidatesApi(anonymous).registerCandidate({
  candidateRegistration: CandidateRegistrationFromJSON(JSON.parse(company)),
});

// For OAuth 2, unlike for a bearer, this client does not write "Bearer" itself.
const accessToken = (scheme?: string) =>
  scheme === "OAuth2PasswordBearer" ? `Bearer ${tokens.accessToken}` : tokens.accessToken;
const configuration = new Configuration({ basePath, accessToken });
const candidates = new CandidatesApi(configuration);
const listed = await candidates.listCandidates({ status: Status.Pending, limit: 1 });
const candidateId = listed.candidates[0]!.candidateId;
const approved = await new ApprovalsApi(configuration).approveCandidate({
  candidateId,
  ifMatch: `"${registered.version}"`,
});
const read = await candidates.getCandidate({ candidateId });
const events = await candidates.listCandidateEvents({ candidateId, limit: 1 });
const older = await candidates.listCandidateEvents({ candidateId, cursor: events.pagination.nextCursor! });

console.log(
  JSON.stringify({
    codes,
    registered: registered.candidateId,
    listed: candidateId,
    approved: approved.providerId,
    read: read.status,
    events: [...events.events, ...older.events].slice(0, 2).map((event) => event.type),
  }),
);
