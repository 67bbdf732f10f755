using 'main.bicep'

// Values come from the environment: `azd env set NAME value`, or `export NAME=value` before `az deployment`.
// All other parameters of main.bicep have defaults. To set one, add a line such as
//   param exportSchedule = '0 30 4 * * *'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'prod')
param partnerTenantId = readEnvironmentVariable('PARTNER_TENANT_ID', '')
param partnerAppClientId = readEnvironmentVariable('PARTNER_APP_CLIENT_ID', '')
param partnerCenterAppClientId = readEnvironmentVariable('PARTNER_CENTER_APP_CLIENT_ID', '')
param invoiceSource = readEnvironmentVariable('INVOICE_SOURCE', 'partner_center')
param alertEmails = filter(split(readEnvironmentVariable('ALERT_EMAIL', ''), ','), address => !empty(address))
param existingLandingAccountName = readEnvironmentVariable('EXISTING_LANDING_ACCOUNT', '')
param existingLandingResourceGroup = readEnvironmentVariable('EXISTING_LANDING_RESOURCE_GROUP', '')
