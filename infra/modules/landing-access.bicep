metadata name = 'Landing access'
metadata description = 'The container of the landed data, the tables of the ledger and who may do what in them, in a landing account that is new or was there before. Deployed into the account\'s own resource group.'

// Parameters

@description('Required. Name of the landing account.')
@minLength(3)
@maxLength(24)
param accountName string

@description('Required. Name of the container of the landed data.')
@minLength(3)
@maxLength(63)
param containerName string

@description('Required. What the names of the ledger\'s tables begin with.')
@minLength(1)
@maxLength(50)
param tablePrefix string

@description('Required. Where the identity may write tables: in the whole account, or in the ledger\'s tables alone.')
@allowed(['account', 'tables'])
param ledgerRoleScope string

@description('Required. Object ID of the app\'s identity.')
param principalId string

@description('Required. Object IDs of Entra groups that may read the landed data.')
param readerGroupIds array

// Variables

var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var blobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var tableNames = ['catalogue', 'versions', 'runs', 'blobs', 'locks']
var tablesWithRole = ledgerRoleScope == 'tables' ? tableNames : []
var tableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'

// Resources

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: accountName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: containerName
  properties: { publicAccess: 'None' }
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' = [for tableName in tableNames: {
  parent: tableService
  name: '${tablePrefix}${tableName}'
}]

// This container and no other.
resource writesBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(container.id, principalId, blobDataContributor)
  scope: container
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
  }
}

resource writesAllTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (ledgerRoleScope == 'account') {
  name: guid(account.id, principalId, tableDataContributor)
  scope: account
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableDataContributor)
  }
}

// These tables and no others. A role on a table does not cover making it: that is why they are made here.
resource writesTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (tableName, i) in tablesWithRole: {
  name: guid(tables[i].id, principalId, tableDataContributor)
  scope: tables[i]
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableDataContributor)
  }
}]

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
