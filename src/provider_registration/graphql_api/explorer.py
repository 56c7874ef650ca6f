"""GraphiQL, a page to try queries, served from an installed package and not from other hosts."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse

router = APIRouter(include_in_schema=False)

MAX_CACHED = 4  # pages, one for each prefix
NAME = "graphene_django_graphiql_static"
GRAPHIQL = Path(str(files(NAME) / "static" / NAME))
GraphiqlAsset = Literal["graphiql.min.js", "graphiql.min.css", "react.production.min.js", "react-dom.production.min.js"]
SCRIPT = Template("""
ReactDOM.render(
  React.createElement(GraphiQL, {
    fetcher: GraphiQL.createFetcher({url: "$prefix/graphql"}),
    defaultHeaders: '{"Authorization": "Bearer "}',
    shouldPersistHeaders: false,
    defaultQuery: `# Enter an access token or API key at Headers.
# Then fetch the schema again (at the left)
# to get suggestions and the documentation.
{
  candidates(limit: 10) {
    candidates { company_name status }
    pagination { total next_cursor }
  }
}
`,
  }),
  document.getElementById("graphiql"),
);
""")
PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GraphiQL</title>
<link rel="icon" href="$prefix/docs/favicon-32x32.png">
<link rel="stylesheet" href="$prefix/graphiql/graphiql.min.css">
<style>html, body, #graphiql { height: 100%; margin: 0 }</style>
</head>
<body>
<div id="graphiql"></div>
<script src="$prefix/graphiql/react.production.min.js"></script>
<script src="$prefix/graphiql/react-dom.production.min.js"></script>
<script src="$prefix/graphiql/graphiql.min.js"></script>
<script>$script</script>
</body>
</html>
""")
# GraphiQL sets inline styles, which no hash can allow, and has its fonts in its style sheet.
POLICY = Template(
    "default-src 'none'; script-src 'self' 'sha256-$digest'; style-src 'self' 'unsafe-inline'; font-src data:; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/graphiql")
async def graphiql(request: Request) -> HTMLResponse:
    """GraphiQL."""
    page, policy = _page(request.scope.get("root_path", ""))
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


@lru_cache(MAX_CACHED)
def _page(prefix: str) -> tuple[str, str]:
    script = SCRIPT.substitute(prefix=prefix)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return PAGE.substitute(prefix=prefix, script=script), POLICY.substitute(digest=digest)


@router.get("/graphiql/{asset}")
async def graphiql_asset(asset: GraphiqlAsset) -> FileResponse:
    """One of GraphiQL's files."""
    return FileResponse(GRAPHIQL / asset)
