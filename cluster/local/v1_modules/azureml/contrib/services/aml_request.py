"""`AMLRequest` and the decorator `rawhttp`, those of the inference server."""

from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp

__all__ = ["AMLRequest", "rawhttp"]
