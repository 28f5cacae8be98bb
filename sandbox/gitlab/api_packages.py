"""REST: generic packages and the list of packages.

Sources: docs: GitLab generic packages repository, Packages API; `lib/api/generic_packages.rb`, `lib/gitlab/regex/packages.rb`.
"""

import hashlib
import re
import time
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify, request

from sandbox.gitlab.model import Access, Package, PackageFile, Project
from sandbox.gitlab.web import Api, ApiError, Call, missing, page, refuse, stamp

FILE = "/packages/generic/<enc:name>/<enc:version>/<enc:file>"
NAME = re.compile(r"[A-Za-z0-9._+-]+", re.ASCII)
VERSION = re.compile(r"(?!.*\.\.)[\w+.-]+", re.ASCII)
ORDERS = {
    "created_at": lambda row: row.created,
    "name": lambda row: row.name,
    "version": lambda row: row.version,
    "type": lambda row: row.id,
}


def register(api: Api) -> None:
    """Add the endpoints; a job token may use all of them (docs: CI/CD job token, "Job token access")."""
    api.route("PUT", FILE, job=True, basic=True)(upload)
    api.route("GET", FILE, job=True, basic=True)(download)
    api.route("GET", "/packages", job=True)(list_packages)
    api.route("GET", "/packages/<int:number>", job=True)(get_package)
    api.route("GET", "/packages/<int:number>/package_files", job=True)(list_files)
    api.route("DELETE", "/packages/<int:number>", job=True)(delete_package)


def _checked(name: str, version: str, file: str) -> None:
    """Answer 400 to what no package can be called (`Gitlab::Regex`, and `file_path` against `..`)."""
    rules = (("package_name", NAME, name), ("package_version", VERSION, version), ("file_name", NAME, file))
    wrong = [field for field, rule, value in rules if not rule.fullmatch(value) or value in {".", ".."}]
    if wrong:
        message = ", ".join(f"{field} is invalid" for field in wrong)
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": message})


def upload(call: Call, project: Project, name: str, version: str, file: str) -> Any:
    """Add a file to a package, made when missing (docs: "Publish a single file"); Developer.

    A name that is there already gets a second file: duplicates are allowed unless a group forbids them.
    """
    _checked(name, version, file)
    call.need(project, Access.DEVELOPER)
    with call.state.lock:
        package = _find(project, name, version) or _made(call, project, name, version)
        made = PackageFile(call.state.next_id("package_file"), file, request.get_data(), time.time())
        package.files.append(made)
    shown = _file_json(package, made) if call.optional("select") == "package_file" else None
    return jsonify(shown or {"message": "201 Created"}), HTTPStatus.CREATED


def _find(project: Project, name: str, version: str) -> Package | None:
    rows = project.packages
    return next((row for row in rows if (row.name, row.version) == (name, version)), None)


def _made(call: Call, project: Project, name: str, version: str) -> Package:
    package = Package(call.state.next_id("package"), name, version, time.time())
    project.packages.append(package)
    return package


def download(call: Call, project: Project, name: str, version: str, file: str) -> Any:
    """Give the newest file of this name (docs: "Download a single file"); Reporter."""
    _checked(name, version, file)
    call.need(project, Access.REPORTER)
    package = _find(project, name, version)
    found = [row for row in package.files if row.name == file] if package else []
    if not found:
        missing("")
    return Response(found[-1].content, mimetype="application/octet-stream")


def list_packages(call: Call, project: Project) -> Any:
    """List packages, the oldest first (docs: Packages API, "List packages for a project"); the name is a fuzzy search."""
    call.need(project, Access.REPORTER)
    order, wanted = call.optional("order_by", "created_at"), call.optional("package_name")
    if order not in ORDERS:
        raise ApiError(HTTPStatus.BAD_REQUEST, {"error": "order_by does not have a valid value"})
    rows = [row for row in project.packages if wanted.lower() in row.name.lower() and _sought(call, row)]
    rows.sort(key=ORDERS[order], reverse=call.optional("sort", "asc") == "desc")
    return page(rows, lambda row: _package_json(project, row))


def _sought(call: Call, row: Package) -> bool:
    version = call.optional("package_version", row.version)
    return version == row.version and call.optional("package_type", "generic") == "generic"


def _package_json(project: Project, row: Package) -> dict[str, Any]:
    """Show a package (docs: Packages API)."""
    return {
        "id": row.id,
        "name": row.name,
        "version": row.version,
        "package_type": "generic",
        "status": "default",
        "_links": {"web_path": f"/{project.path}/-/packages/{row.id}"},
        "created_at": stamp(row.created),
        "tags": [],
    }


def _file_json(package: Package, row: PackageFile) -> dict[str, Any]:
    """Show a file (docs: Packages API, "List package files")."""
    return {
        "id": row.id,
        "package_id": package.id,
        "created_at": stamp(row.created),
        "file_name": row.name,
        "size": len(row.content),
        "file_sha256": hashlib.sha256(row.content).hexdigest(),
    }


def _package(call: Call, project: Project, number: int) -> Package:
    call.need(project, Access.REPORTER)
    found = next((row for row in project.packages if row.id == number), None)
    if found is None:
        missing("")
    return found


def get_package(call: Call, project: Project, number: int) -> Any:
    return jsonify(_package_json(project, _package(call, project, number)))


def list_files(call: Call, project: Project, number: int) -> Any:
    package = _package(call, project, number)
    return page(package.files, lambda row: _file_json(package, row))


def delete_package(call: Call, project: Project, number: int) -> Any:
    """Delete a package with its files (docs: Packages API, "Delete a project package"); Maintainer."""
    package = _package(call, project, number)
    if call.access(project) < Access.MAINTAINER:
        refuse(HTTPStatus.FORBIDDEN)
    with call.state.lock:
        project.packages.remove(package)
    return "", HTTPStatus.NO_CONTENT
