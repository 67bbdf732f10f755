"""Valid settings for an app on Azure, for tests that do not need storage."""

TENANT = "7d0f6c2e-3c1b-4c57-9a0e-2d8f5b1c9e44"
AZURE = {
    "PARTNER_TENANT_ID": TENANT,
    "LANDING_STORAGE__blobServiceUri": "https://landing.blob.core.windows.net",
    "LANDING_STORAGE__tableServiceUri": "https://landing.table.core.windows.net",
    "AzureWebJobsStorage__accountName": "funchost",
}
