"""Valid settings of an app on Azure, and the names of the settings of the host."""

TENANT = "7d0f6c2e-3c1b-4c57-9a0e-2d8f5b1c9e44"
AZURE = {
    "PARTNER_TENANT_ID": TENANT,
    "LANDING_STORAGE__blobServiceUri": "https://landing.blob.core.windows.net",
    "LANDING_STORAGE__tableServiceUri": "https://landing.table.core.windows.net",
    "AzureWebJobsStorage__accountName": "funchost",
}
TELEMETRY = {"APPLICATIONINSIGHTS_CONNECTION_STRING", "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"}
HOST_SETTINGS = {
    "AzureWebJobsStorage",
    "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING",
    "FUNCTIONS_WORKER_RUNTIME",
    "TASK_HUB_NAME",
    *TELEMETRY,
}
