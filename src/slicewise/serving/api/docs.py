"""The page at /docs: every route, from the API's own OpenAPI document; without scripts or external files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Template

_PAGE: Final = Path(__file__).with_name("docs.html.j2")
Json = Mapping[str, Any]
_Rows = list[tuple[str, str]]


def render_docs(document: Json) -> str:
    """Return the HTML page of an OpenAPI 3.1 document as FastAPI generates it."""
    template: Template = Template(_PAGE.read_text("utf-8"), autoescape=True, trim_blocks=True)
    return template.render(info=document["info"], routes=_routes(document))


def _routes(document: Json) -> Iterator[tuple[str, str, dict[str, _Rows]]]:
    """Yield the title and the description of each route, and the rows of its tables."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            takes = [
                (
                    f"{item['name']} ({item['in']})",
                    item.get("description", item["schema"].get("description", "")),
                )
                for item in operation.get("parameters", ())
            ]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                takes += [(f"{name} (form)", text) for name, text in _fields(content["schema"], document)]
            responses = operation["responses"]
            returned = responses["200"].get("content", {}).get("application/json", {})
            tables = {
                "Takes": takes,
                "Returns": _fields(returned.get("schema", {}), document),
                "Status": [(code, item["description"]) for code, item in responses.items()],
            }
            yield f"{method.upper()} {path}", operation["description"], tables


def _fields(schema: Json, document: Json) -> _Rows:
    """Return (name, description) of each field of a schema and of all its alternatives."""
    descriptions: dict[str, str] = {}
    for part in (schema, *schema.get("anyOf", ()), schema.get("items", {})):
        name = str(part.get("$ref", "")).rpartition("/")[2]
        resolved = document["components"]["schemas"][name] if name else part
        for field, properties in resolved.get("properties", {}).items():
            descriptions.setdefault(field, properties.get("description", ""))
    return list(descriptions.items())
