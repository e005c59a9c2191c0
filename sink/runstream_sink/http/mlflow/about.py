"""What MLflow's client and UI ask to learn what the server can."""

from typing import Any, Final

from litestar import Response

from runstream_sink.http.mlflow.call import Call, Endpoint

__all__ = ["ENDPOINTS", "ROOT", "VERSION"]

VERSION: Final = "3.17.2"
"""The version of MLflow whose server this answers like."""


async def _server_info(_call: Call) -> dict[str, Any]:
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": True,
        "presigned_upload_model_id_supported": True,
        "features_enabled": {"gateway": False},
    }


async def _version(_call: Call) -> Response[str]:
    return Response(VERSION, status_code=200, media_type="text/plain")


async def _health(_call: Call) -> Response[str]:
    return Response("OK", status_code=200, media_type="text/plain")


ENDPOINTS: Final = (Endpoint("GET", "server-info", _server_info),)
"""Of version 3.0."""
ROOT: Final = (Endpoint("GET", "version", _version), Endpoint("GET", "health", _health))
