metadata name = 'Host storage'
metadata description = 'The storage account of the Functions host: task hub, timers, keys and packages. Anyone who can write to it can run code as the app, so no other principal has a role on it.'

// Parameters

@description('Required. Name of the storage account.')
@minLength(3)
@maxLength(24)
param name string

@description('Required. Name of the container for the deployment packages.')
@minLength(3)
@maxLength(63)
param packageContainer string

@description('Required. Whether the account is reachable from outside the private network.')
@allowed(['Enabled', 'Disabled'])
param publicNetworkAccess string

@description('Required. Permitted scope for copy operations: an empty string (unrestricted), AAD (accounts in this tenant), or PrivateLink (accounts in this network).')
@allowed(['', 'AAD', 'PrivateLink'])
param copyScope string

@description('Required. Resource ID of the Log Analytics workspace for metrics.')
param workspaceId string

@description('Required. Region for the account.')
param location string

@description('Required. Tags for the account.')
param tags object

// Resources

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowedCopyScope: empty(copyScope) ? null : copyScope
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: publicNetworkAccess
    supportsHttpsTrafficOnly: true
    networkAcls: {
      bypass: 'None'
      defaultAction: publicNetworkAccess == 'Enabled' ? 'Allow' : 'Deny'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
}

resource packages 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: packageContainer
  properties: { publicAccess: 'None' }
}

resource metrics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: account
  properties: {
    workspaceId: workspaceId
    metrics: [{ category: 'Transaction', enabled: true }]
  }
}

// Outputs

@description('Resource ID of the account, for private endpoints.')
output id string = account.id

@description('Name of the account, for the host and for role assignments.')
output name string = account.name

@description('URL of the container for the deployment packages.')
output packageContainerUri string = '${account.properties.primaryEndpoints.blob}${packages.name}'
