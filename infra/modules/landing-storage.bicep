metadata name = 'Landing storage'
metadata description = 'A new storage account for the landed data. Deleted and overwritten blobs can be restored for several days, and no lifecycle rule deletes blobs.'

// Parameters

@description('Required. Name of the storage account.')
@minLength(3)
@maxLength(24)
param name string

@description('Required. Redundancy (SKU) of the account.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param sku string

@description('Required. Whether the account has a hierarchical namespace (for Fabric, Spark and access control lists); false enables blob versioning instead, because Azure does not support both.')
param hierarchicalNamespace bool

@description('Required. Number of days for which deleted blobs and containers can be restored.')
@minValue(1)
@maxValue(365)
param softDeleteDays int

@description('Required. Container for the landed data, for the lifecycle rule.')
@minLength(3)
@maxLength(63)
param containerName string

@description('Required. Folder for the landed data in the container, for the lifecycle rule. An empty string specifies the container itself.')
@maxLength(250)
param prefix string

@description('Required. Number of days after which billed versions move to the cool tier; 0 disables the rule.')
@minValue(0)
@maxValue(3650)
param coolAfterDays int

@description('Required. Whether reads of landed data are logged in addition to writes and deletions.')
param auditReads bool

@description('Required. Whether the account is reachable from outside the private network.')
@allowed(['Enabled', 'Disabled'])
param publicNetworkAccess string

@description('Required. Permitted scope for copy operations: an empty string (unrestricted), AAD (accounts in this tenant), or PrivateLink (accounts in this network).')
@allowed(['', 'AAD', 'PrivateLink'])
param copyScope string

@description('Required. Resource ID of the Log Analytics workspace for the access logs.')
param workspaceId string

@description('Required. Region for the account.')
param location string

@description('Required. Tags for the account.')
param tags object

// Variables

var data = empty(prefix) ? '${containerName}/data' : '${containerName}/${prefix}/data'
var changes = [
  { category: 'StorageWrite', enabled: true }
  { category: 'StorageDelete', enabled: true }
]
var audited = auditReads ? concat(changes, [{ category: 'StorageRead', enabled: true }]) : changes

// Resources

// Microsoft's billing storage is in another tenant, so a copy scope prevents server-side copies
// from it. The app then streams the files.
resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowedCopyScope: empty(copyScope) ? null : copyScope
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    isHnsEnabled: hierarchicalNamespace
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
  properties: {
    isVersioningEnabled: !hierarchicalNamespace
    deleteRetentionPolicy: { enabled: true, days: softDeleteDays }
    containerDeleteRetentionPolicy: { enabled: true, days: softDeleteDays }
  }
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2023-05-01' = {
  parent: account
  name: 'default'
}

// Unbilled versions are excluded: retention removes them within days, and the cool tier charges
// for at least 30 days.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = if (coolAfterDays > 0) {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'cool-billed-versions'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: {
              blobTypes: ['blockBlob']
              prefixMatch: ['${data}/billed_usage/', '${data}/billed_reconciliation/']
            }
            actions: {
              baseBlob: { tierToCool: { daysAfterModificationGreaterThan: coolAfterDays } }
            }
          }
        }
      ]
    }
  }
  dependsOn: [blobs]
}

resource blobLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: blobs
  properties: {
    workspaceId: workspaceId
    logs: audited
    metrics: [{ category: 'Transaction', enabled: true }]
  }
}

resource tableLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: tables
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageDelete', enabled: true }]
    metrics: [{ category: 'Transaction', enabled: true }]
  }
}
