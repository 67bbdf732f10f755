metadata name = 'Partner Billing Export'
metadata description = 'Lands the billing exports of a Microsoft CSP partner in the partner\'s own storage. The Graph permission is granted separately; see graph/.'

targetScope = 'resourceGroup'

//==============================================================================
// Parameters: where and how
//==============================================================================

@description('Optional. Region for all resources; it must support Flex Consumption. Default: the region of the resource group.')
@minLength(1)
param location string = resourceGroup().location

@description('Required. Name of the environment, such as prod, with 1 to 64 characters. It distinguishes environments in one resource group.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Optional. Tags for all resources.')
param tags object = {}

@description('Optional. Memory per instance, in MB. Default: 2048.')
@allowed([2048, 4096])
param instanceMemoryMB int = 2048

@description('Optional. Maximum number of instances, 40 to 1000. Default: 40, the minimum for the plan.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Optional. Number of always-ready instances for orchestrations, 0 to 10. Default: 1; with 0, runs might start late.')
@minValue(0)
@maxValue(10)
param alwaysReadyInstances int = 1

@description('Optional. How an update replaces running instances. Default: Recreate; RollingUpdate is a Microsoft preview.')
@allowed(['Recreate', 'RollingUpdate'])
param siteUpdateStrategy string = 'Recreate'

@description('Optional. Address ranges (CIDR) that may call the API. Default: all addresses; every call requires a function key.')
param allowedAddresses array = []

@description('Optional. Resource ID of an existing Log Analytics workspace. Default: a new workspace.')
param existingWorkspaceId string = ''

@description('Optional. Number of days for which a new workspace retains telemetry, 30 to 730. Default: 90.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 90

//==============================================================================
// Parameters: the landing account
//==============================================================================

@description('Optional. Name of an existing storage account for the landing, at most 24 characters. Default: a new account.')
@maxLength(24)
param existingLandingAccountName string = ''

@description('Optional. Resource group of the existing landing account, at most 90 characters. Default: this resource group.')
@maxLength(90)
param existingLandingResourceGroup string = ''

@description('Optional. Subscription ID of the existing landing account, in the same tenant, at most 36 characters. Default: this subscription.')
@maxLength(36)
param existingLandingSubscriptionId string = ''

@description('Optional. Redundancy (SKU) of a new landing account. Default: Standard_ZRS.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param landingSku string = 'Standard_ZRS'

@description('Optional. Whether a new landing account has a hierarchical namespace (for Fabric, Spark and access control lists). Default: true; false enables blob versioning instead. You cannot change it later.')
param landingHierarchicalNamespace bool = true

@description('Optional. Number of days for which deleted blobs and containers can be restored, 1 to 365, in a new landing account. Default: 14.')
@minValue(1)
@maxValue(365)
param landingSoftDeleteDays int = 14

@description('Optional. Number of days after which billed versions move to the cool tier, in a new landing account, 0 to 3650. Default: 0, which disables the rule.')
@minValue(0)
@maxValue(3650)
param landingCoolAfterDays int = 0

@description('Optional. Whether reads of landed data are logged in a new landing account. Default: false; only writes and deletions are logged.')
param landingAuditReads bool = false

@description('Optional. Permitted scope for copy operations in new storage accounts: AAD or PrivateLink, if a policy requires one. Default: unrestricted. A scope prevents server-side copies; the default copy mode streams the files and is not affected.')
@allowed(['', 'AAD', 'PrivateLink'])
param storageCopyScope string = ''

@description('Optional. Scope of the table role that is assigned to the identity: account, or tables (only the five tables of the ledger). Default: account; if the account contains other tables, try tables and run the preflight.')
@allowed(['account', 'tables'])
param ledgerRoleScope string = 'account'

@description('Optional. Object IDs of Entra groups that may read the landed data. Default: none.')
param landingReaderGroupIds array = []

//==============================================================================
// Parameters: the network
//==============================================================================

@description('Optional. Whether storage is reachable only through private endpoints. Default: false; storage is reachable through the public network with Entra identities.')
param privateNetwork bool = false

@description('Optional. Resource ID of an existing subnet for the app, delegated to Microsoft.App/environments; requires existingEndpointSubnetId. Default: a new network.')
param existingAppSubnetId string = ''

@description('Optional. Resource ID of an existing subnet for private endpoints; requires existingAppSubnetId. Default: a new network.')
param existingEndpointSubnetId string = ''

@description('Optional. Resource ID of the resource group that contains the privatelink DNS zones. Default: new zones, linked to the network.')
param existingDnsZoneGroupId string = ''

@description('Optional. Address space of a new network, /24 or larger. Default: 10.42.0.0/24.')
param networkAddressPrefix string = '10.42.0.0/24'

@description('Optional. Whether a new landing account is reachable from outside the private network. Default: false.')
param landingPublicAccess bool = false

//==============================================================================
// Parameters: the alerts, see docs/alarms.md
//==============================================================================

@description('Optional. Email addresses that receive the alerts. Default: none; alerts are visible only in the portal.')
param alertEmails array = []

@description('Optional. Whether the alert rules are enabled. Default: true.')
param alertsEnabled bool = true

@description('Optional. Number of hours without a successful run of a dataset after which the alert fires, 2 to 47; increase it if the schedule is less frequent than daily. Default: 30.')
@minValue(2)
@maxValue(47)
param alertSilenceHours int = 30

@description('Optional. Number of hours within which the schedule and the daily preflight must have run, 2 to 47. Default: 26.')
@minValue(2)
@maxValue(47)
param alertTimerHours int = 26

@description('Optional. Number of minutes within which a requested run or cycle must have started, 5 to 720. Default: 15.')
@minValue(5)
@maxValue(720)
param alertPendingMinutes int = 15

@description('Optional. Number of hours before the deadline of an active run at which the alert fires, 1 to 24. Default: 2.')
@minValue(1)
@maxValue(24)
param alertDeadlineHours int = 2

@description('Optional. Maximum percentage of the planned copies of a run that can fail before the alert fires, 1 to 100. Default: 5.')
@minValue(1)
@maxValue(100)
param alertFailedPercent int = 5

@description('Optional. Percentage of the trailing mean, 0 to 99. An alert fires if the rows or bytes of a version are below it. Default: 50.')
@minValue(0)
@maxValue(99)
param alertLowPercent int = 50

@description('Optional. Percentage of the trailing mean, 101 to 10000. An alert fires if the rows or bytes of a version are above it. Default: 300.')
@minValue(101)
@maxValue(10000)
param alertHighPercent int = 300

//==============================================================================
// Parameters: the settings of the app, see docs/settings.md
//==============================================================================

@description('Required. Entra tenant ID of the partner, a GUID with 36 characters. The app rejects data from other tenants.')
@minLength(36)
@maxLength(36)
param partnerTenantId string

@description('Optional. Client ID of the app that calls Microsoft Graph if the subscription is not in the partner tenant, at most 36 characters. Default: the identity.')
@maxLength(36)
param partnerAppClientId string = ''

@description('Optional. Client ID of the app that calls Partner Center, at most 36 characters. Default: the identity.')
@maxLength(36)
param partnerCenterAppClientId string = ''

@description('Optional. Source of the invoices for billed exports. Default: partner_center.')
@allowed(['partner_center', 'list', 'none'])
param invoiceSource string = 'partner_center'

@description('Optional. Invoice IDs if invoiceSource is list. Default: none.')
param invoiceIds array = []

@description('Optional. Base URL of Microsoft Graph: v1.0 or beta. Default: v1.0.')
@allowed(['https://graph.microsoft.com/v1.0', 'https://graph.microsoft.com/beta'])
param graphBaseUrl string = 'https://graph.microsoft.com/v1.0'

@description('Optional. Base URL of Partner Center. Only the public URL is allowed, which is the default.')
@allowed(['https://api.partnercenter.microsoft.com'])
param partnerCenterBaseUrl string = 'https://api.partnercenter.microsoft.com'

@description('Optional. Task hub: 3 to 45 letters and digits, starting with a letter. Orchestrations of the previous task hub do not continue in a new one. Default: PartnerBilling.')
@minLength(3)
@maxLength(45)
param taskHubName string = 'PartnerBilling'

@description('Optional. Container for the landed data, 3 to 63 characters. Default: billing.')
@minLength(3)
@maxLength(63)
param landingContainer string = 'billing'

@description('Optional. Folder in the container, at most 250 characters, without a slash at either end. Default: none.')
@maxLength(250)
param landingPrefix string = ''

@description('Optional. Prefix for the names of the ledger tables: 1 to 50 letters and digits. Default: billing.')
@minLength(1)
@maxLength(50)
param landingTablePrefix string = 'billing'

@description('Optional. Schedule for the cycles: six-field NCRONTAB, in UTC. Default: daily at 05:00.')
@minLength(11)
param exportSchedule string = '0 0 5 * * *'

@description('Optional. Datasets that cycles request. Default: all four.')
@allowed(['billed_usage', 'unbilled_usage', 'billed_reconciliation', 'unbilled_reconciliation'])
@minLength(1)
param exportDatasets array = ['billed_usage', 'unbilled_usage', 'billed_reconciliation', 'unbilled_reconciliation']

@description('Optional. Attribute sets that cycles request. Default: full.')
@allowed(['full', 'basic'])
@minLength(1)
param exportAttributeSets array = ['full']

@description('Optional. Months for which cycles request unbilled exports. Default: current and last.')
@allowed(['current', 'last'])
@minLength(1)
param exportPeriods array = ['current', 'last']

@description('Optional. Currencies in which cycles request unbilled exports, such as USD. Default: the currencies of the invoices in the look-back period.')
param exportCurrencies array = []

@description('Optional. Number of concurrent runs in a cycle, 1 to 32. Default: 4.')
@minValue(1)
@maxValue(32)
param exportParallelism int = 4

@description('Optional. Number of earlier months whose invoices are requested, 1 to 60. Default: 3.')
@minValue(1)
@maxValue(60)
param invoiceLookbackMonths int = 3

@description('Optional. Number of days after the invoice date during which every cycle requests the invoice, 0 to 365. Default: 21.')
@minValue(0)
@maxValue(365)
param invoiceSettleDays int = 21

@description('Optional. Minimum number of seconds between two polls of an operation, 1 to 3600. Default: 10.')
@minValue(1)
@maxValue(3600)
param pollMinSeconds int = 10

@description('Optional. Number of hours after which a run times out, 1 to 336. Default: 24.')
@minValue(1)
@maxValue(336)
param runDeadlineHours int = 24

@description('Optional. Number of minutes before and after the start of a UTC month during which the app requests no unbilled exports, 0 to 720. Default: 30.')
@minValue(0)
@maxValue(720)
param monthBoundaryMinutes int = 30

@description('Optional. Allowed suffixes for the host names of Microsoft\'s storage. Default: those of Azure Blob Storage.')
@minLength(1)
param sourceAllowed array = ['.blob.${environment().suffixes.storage}', '.blob.storage.azure.net']

@description('Optional. How files are copied. Default: auto, which streams the files if proof is content and otherwise uses server-side copy.')
@allowed(['auto', 'server', 'stream'])
param copyMode string = 'auto'

@description('Optional. Maximum number of concurrent blob copies per instance, 1 to 512. Default: 64.')
@minValue(1)
@maxValue(512)
param copyConcurrency int = 64

@description('Optional. How landed files are verified: content reads every file completely; transfer compares the size and the MD5 hash. Default: content.')
@allowed(['content', 'transfer'])
param proof string = 'content'

@description('Optional. Number of versions of a billed export to keep, 0 to 10000. Default: 0, which keeps all versions.')
@minValue(0)
@maxValue(10000)
param keepVersionsBilled int = 0

@description('Optional. Number of versions of an unbilled export to keep, 0 to 10000; 0 keeps all versions. Default: 7.')
@minValue(0)
@maxValue(10000)
param keepVersionsUnbilled int = 7

@description('Optional. Number of hours for which readers can continue to read a superseded version, 1 to 8760. Default: 72.')
@minValue(1)
@maxValue(8760)
param pruneGraceHours int = 72

@description('Optional. Number of days for which the history of completed orchestrations is kept, 15 to 3650. Default: 30.')
@minValue(15)
@maxValue(3650)
param historyDays int = 30

@description('Optional. Number of days for which the ledger keeps a row for each blob, 30 to 3650. Default: 400.')
@minValue(30)
@maxValue(3650)
param blobRowDays int = 400

//==============================================================================
// Variables
//==============================================================================

var abbreviations = loadJsonContent('abbreviations.json')
var token = toLower(uniqueString(subscription().id, resourceGroup().id, environmentName))
var allTags = union({ 'azd-env-name': environmentName, application: 'partner-billing-export' }, tags)

var makeLanding = empty(existingLandingAccountName)
var landingAccountName = makeLanding ? '${abbreviations.storageAccount}land${token}' : existingLandingAccountName
var landingSubscriptionId = empty(existingLandingSubscriptionId) ? subscription().subscriptionId : existingLandingSubscriptionId
var landingResourceGroup = empty(existingLandingResourceGroup) ? resourceGroup().name : existingLandingResourceGroup

var makeNetwork = privateNetwork && empty(existingAppSubnetId)
var hostPublicNetworkAccess = privateNetwork ? 'Disabled' : 'Enabled'
var landingPublicNetworkAccess = privateNetwork && !landingPublicAccess ? 'Disabled' : 'Enabled'

// An empty value has the same effect as no value. The plan does not support WEBSITE_TIME_ZONE.
var settings = {
  AzureWebJobsStorage__accountName: hostStorage.outputs.name
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.outputs.clientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.outputs.clientId};Authorization=AAD'
  AZURE_FUNCTIONS_DURABLE_STRICT_TYPING: '1'
  TASK_HUB_NAME: taskHubName
  AZURE_CLIENT_ID: identity.outputs.clientId
  PARTNER_TENANT_ID: partnerTenantId
  PARTNER_APP_CLIENT_ID: partnerAppClientId
  PARTNER_CENTER_APP_CLIENT_ID: partnerCenterAppClientId
  GRAPH_BASE_URL: graphBaseUrl
  PARTNER_CENTER_BASE_URL: partnerCenterBaseUrl
  INVOICE_SOURCE: invoiceSource
  INVOICE_IDS: join(invoiceIds, ',')
  LANDING_STORAGE__blobServiceUri: landingAccess.outputs.blobServiceUri
  LANDING_STORAGE__tableServiceUri: landingAccess.outputs.tableServiceUri
  LANDING_CONTAINER: landingContainer
  LANDING_PREFIX: landingPrefix
  LANDING_TABLE_PREFIX: landingTablePrefix
  EXPORT_SCHEDULE: exportSchedule
  EXPORT_DATASETS: join(exportDatasets, ',')
  EXPORT_ATTRIBUTE_SETS: join(exportAttributeSets, ',')
  EXPORT_PERIODS: join(exportPeriods, ',')
  EXPORT_CURRENCIES: join(exportCurrencies, ',')
  EXPORT_PARALLELISM: exportParallelism
  INVOICE_LOOKBACK_MONTHS: invoiceLookbackMonths
  INVOICE_SETTLE_DAYS: invoiceSettleDays
  POLL_MIN_SECONDS: pollMinSeconds
  RUN_DEADLINE_HOURS: runDeadlineHours
  MONTH_BOUNDARY_MINUTES: monthBoundaryMinutes
  SOURCE_ALLOWED: join(sourceAllowed, ',')
  COPY_MODE: copyMode
  COPY_CONCURRENCY: copyConcurrency
  PROOF: proof
  KEEP_VERSIONS_BILLED: keepVersionsBilled
  KEEP_VERSIONS_UNBILLED: keepVersionsUnbilled
  PRUNE_GRACE_HOURS: pruneGraceHours
  HISTORY_DAYS: historyDays
  BLOB_ROW_DAYS: blobRowDays
}

//==============================================================================
// Modules
//==============================================================================

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    name: '${abbreviations.managedIdentity}billing-${token}'
    location: location
    tags: allTags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    applicationInsightsName: '${abbreviations.applicationInsights}billing-${token}'
    workspaceName: '${abbreviations.workspace}billing-${token}'
    existingWorkspaceId: existingWorkspaceId
    retentionDays: logRetentionDays
    location: location
    tags: allTags
  }
}

module hostStorage 'modules/host-storage.bicep' = {
  name: 'host-storage'
  params: {
    name: '${abbreviations.storageAccount}host${token}'
    packageContainer: 'packages'
    publicNetworkAccess: hostPublicNetworkAccess
    copyScope: storageCopyScope
    workspaceId: monitoring.outputs.workspaceId
    location: location
    tags: allTags
  }
}

module landingStorage 'modules/landing-storage.bicep' = if (makeLanding) {
  name: 'landing-storage'
  params: {
    name: '${abbreviations.storageAccount}land${token}'
    sku: landingSku
    hierarchicalNamespace: landingHierarchicalNamespace
    softDeleteDays: landingSoftDeleteDays
    containerName: landingContainer
    prefix: landingPrefix
    coolAfterDays: landingCoolAfterDays
    auditReads: landingAuditReads
    publicNetworkAccess: landingPublicNetworkAccess
    copyScope: storageCopyScope
    workspaceId: monitoring.outputs.workspaceId
    location: location
    tags: allTags
  }
}

module landingAccess 'modules/landing-access.bicep' = {
  name: 'landing-access-${token}'
  scope: resourceGroup(landingSubscriptionId, landingResourceGroup)
  params: {
    accountName: landingAccountName
    containerName: landingContainer
    tablePrefix: landingTablePrefix
    ledgerRoleScope: ledgerRoleScope
    principalId: identity.outputs.principalId
    readerGroupIds: landingReaderGroupIds
  }
  dependsOn: [landingStorage]
}

module roleAssignments 'modules/role-assignments.bicep' = {
  name: 'role-assignments'
  params: {
    principalId: identity.outputs.principalId
    hostAccountName: hostStorage.outputs.name
    applicationInsightsName: monitoring.outputs.applicationInsightsName
  }
}

module network 'modules/network.bicep' = if (makeNetwork) {
  name: 'network'
  params: {
    name: '${abbreviations.virtualNetwork}billing-${token}'
    natGatewayName: '${abbreviations.natGateway}billing-${token}'
    publicIpAddressName: '${abbreviations.publicIpAddress}billing-${token}'
    addressPrefix: networkAddressPrefix
    location: location
    tags: allTags
  }
}

module privateEndpoints 'modules/private-endpoints.bicep' = if (privateNetwork) {
  name: 'private-endpoints'
  params: {
    namePrefix: '${abbreviations.privateEndpoint}billing-${token}-'
    subnetId: makeNetwork ? network!.outputs.endpointSubnetId : existingEndpointSubnetId
    networkId: makeNetwork ? network!.outputs.networkId : split(existingEndpointSubnetId, '/subnets/')[0]
    existingDnsZoneGroupId: existingDnsZoneGroupId
    hostAccountId: hostStorage.outputs.id
    landingAccountId: landingAccess.outputs.accountId
    landingServices: makeLanding ? ['blob', 'dfs', 'table'] : []
    location: location
    tags: allTags
  }
}

// The host reads its storage and its package when it starts, so it requires the roles and the network.
module functionApp 'modules/function-app.bicep' = {
  name: 'function-app'
  params: {
    name: '${abbreviations.functionApp}billing-${token}'
    planName: '${abbreviations.serverFarm}billing-${token}'
    identityId: identity.outputs.id
    packageContainerUri: hostStorage.outputs.packageContainerUri
    settings: settings
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    siteUpdateStrategy: siteUpdateStrategy
    allowedAddresses: allowedAddresses
    subnetId: !privateNetwork ? '' : (makeNetwork ? network!.outputs.appSubnetId : existingAppSubnetId)
    workspaceId: monitoring.outputs.workspaceId
    location: location
    tags: allTags
  }
  dependsOn: [roleAssignments, privateEndpoints]
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    logAnalyticsWorkspaceId: monitoring.outputs.workspaceId
    functionAppName: functionApp.outputs.name
    actionGroupName: '${abbreviations.actionGroup}billing-${token}'
    actionGroupEmails: alertEmails
    enabled: alertsEnabled
    datasets: exportDatasets
    silenceHours: alertSilenceHours
    timerHours: alertTimerHours
    pendingMinutes: alertPendingMinutes
    deadlineHours: alertDeadlineHours
    failedPercent: alertFailedPercent
    lowPercent: alertLowPercent
    highPercent: alertHighPercent
    location: location
    tags: allTags
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  params: {
    logAnalyticsWorkspaceId: monitoring.outputs.workspaceId
    functionAppName: functionApp.outputs.name
    functionAppUri: functionApp.outputs.uri
    location: location
    tags: allTags
  }
}

//==============================================================================
// Outputs
//==============================================================================

@description('Name of the function app. Deploy the package to it.')
output functionAppName string = functionApp.outputs.name

@description('Base URL of the API.')
output functionAppUri string = functionApp.outputs.uri

@description('Object ID of the identity, to which an administrator grants the Graph permission.')
output identityPrincipalId string = identity.outputs.principalId

@description('Client ID of the identity, for administrators.')
output identityClientId string = identity.outputs.clientId

@description('Name of the account that contains the landed data and the ledger.')
output landingAccountName string = landingAccountName
