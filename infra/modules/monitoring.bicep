metadata name = 'Monitoring'
metadata description = 'Application Insights, which accepts telemetry only from Entra identities, and its Log Analytics workspace, which can be new or existing.'

// Parameters

@description('Required. Name of the Application Insights resource.')
@maxLength(260)
param applicationInsightsName string

@description('Required. Name of a new Log Analytics workspace.')
@minLength(4)
@maxLength(63)
param workspaceName string

@description('Required. Resource ID of an existing workspace; an empty string creates one.')
param existingWorkspaceId string

@description('Required. Number of days for which a new workspace retains data.')
@minValue(30)
@maxValue(730)
param retentionDays int

@description('Required. Region for both resources.')
param location string

@description('Required. Tags for both resources.')
param tags object

// Resources

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = if (empty(existingWorkspaceId)) {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' = {
  name: applicationInsightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: empty(existingWorkspaceId) ? workspace.id : existingWorkspaceId
    DisableLocalAuth: true
    IngestionMode: 'LogAnalytics'
  }
}

// Outputs

@description('Resource ID of the workspace to which diagnostic settings send logs and metrics.')
output workspaceId string = empty(existingWorkspaceId) ? workspace.id : existingWorkspaceId

@description('Name of the Application Insights resource, for the role assignment.')
output applicationInsightsName string = applicationInsights.name

@description('Connection string of Application Insights. It is not a secret, because ingestion requires an Entra identity.')
output connectionString string = applicationInsights.properties.ConnectionString
