metadata name = 'Landing access'
metadata description = 'The container of the landed data and who may do what in it, in a landing account that is new or was there before. Deployed into the account\'s own resource group.'

// Parameters

@description('Required. Name of the landing account.')
@minLength(3)
@maxLength(24)
param accountName string

@description('Required. Name of the container of the landed data.')
@minLength(3)
@maxLength(63)
param containerName string

@description('Required. Object ID of the app\'s identity.')
param principalId string

@description('Required. Object IDs of Entra groups that may read the landed data.')
param readerGroupIds array

// Variables

var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var blobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var tableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'

// Resources

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: accountName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: containerName
  properties: { publicAccess: 'None' }
}

// Blobs: this container and no other.
resource writesBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(container.id, principalId, blobDataContributor)
  scope: container
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
  }
}

// Tables: the account's, because the app makes its five tables itself, which a role on a table that is not there cannot allow.
resource writesTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, principalId, tableDataContributor)
  scope: account
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableDataContributor)
  }
}

resource readsBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for groupId in readerGroupIds: {
  name: guid(container.id, groupId, blobDataReader)
  scope: container
  properties: {
    principalId: groupId
    principalType: 'Group'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataReader)
  }
}]

// Outputs

@description('Address of the account\'s blob service, which the app lands in.')
output blobServiceUri string = account.properties.primaryEndpoints.blob

@description('Address of the account\'s table service, where the ledger is.')
output tableServiceUri string = account.properties.primaryEndpoints.table

@description('Resource ID of the account, for private endpoints.')
output accountId string = account.id
