"""Services, under the module name of azureml.core."""

from scorefront.sdk.aks_endpoint import AksEndpoint
from scorefront.sdk.aks_webservice import AksWebservice
from scorefront.sdk.services import Webservice

__all__ = ["AksEndpoint", "AksWebservice", "Webservice"]
