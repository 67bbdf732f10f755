metadata name = 'Landing access'
metadata description = 'The container for the landed data, the ledger tables and their role assignments, in a new or an existing landing account. It is deployed to the resource group of the account.'

// Parameters

@description('Required. Name of the landing account.')
@minLength(3)
@maxLength(24)
param accountName string

@description('Required. Name of the container for the landed data.')
@minLength(3)
@maxLength(63)
param containerName string

@description('Required. Prefix for the names of the ledger tables.')
@minLength(1)
@maxLength(50)
param tablePrefix string

@description('Required. Scope of the table role that is assigned to the identity: the account, or only the tables of the ledger.')
@allowed(['account', 'tables'])
param ledgerRoleScope string

@description('Required. Object ID of the identity of the app.')
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

// The role applies to this container only.
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

// The roles apply to these tables only. A role on a table does not allow its creation, so the
// template creates the tables.
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

@description('URL of the blob service of the account.')
output blobServiceUri string = account.properties.primaryEndpoints.blob

@description('URL of the table service of the account.')
output tableServiceUri string = account.properties.primaryEndpoints.table

@description('Resource ID of the account, for private endpoints.')
output accountId string = account.id
