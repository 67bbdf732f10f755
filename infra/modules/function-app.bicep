metadata name = 'Function app'
metadata description = 'The function app on the Flex Consumption plan. It reads its package with its identity, so basic authentication for publishing is disabled.'

// Parameters

@description('Required. Name of the function app.')
@minLength(2)
@maxLength(32)
param name string

@description('Required. Name of the plan.')
@minLength(1)
@maxLength(60)
param planName string

@description('Required. Resource ID of the identity.')
param identityId string

@description('Required. URL of the container for the deployment packages.')
param packageContainerUri string

@description('Required. Application settings by name.')
param settings object

@description('Required. Memory per instance, in MB.')
@allowed([2048, 4096])
param instanceMemoryMB int

@description('Required. Maximum number of instances. The plan requires at least 40.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int

@description('Required. Number of always-ready instances for orchestrations and activities.')
@minValue(0)
@maxValue(10)
param alwaysReadyInstances int

@description('Required. How an update to the code or the settings replaces running instances.')
@allowed(['Recreate', 'RollingUpdate'])
param siteUpdateStrategy string

@description('Required. Address ranges (CIDR) that may call the API; an empty array allows all. Every call requires a function key.')
param allowedAddresses array

@description('Required. Resource ID of the subnet for outbound traffic from the app; an empty string specifies the public network.')
param subnetId string

@description('Required. Resource ID of the Log Analytics workspace for metrics.')
param workspaceId string

@description('Required. Region for the plan and the app.')
param location string

@description('Required. Tags for the plan and the app.')
param tags object

// Resources

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ipSecurityRestrictionsDefaultAction: empty(allowedAddresses) ? 'Allow' : 'Deny'
      ipSecurityRestrictions: [for (address, i) in allowedAddresses: {
        action: 'Allow'
        ipAddress: address
        name: 'caller-${i}'
        priority: 100 + i
      }]
      appSettings: [for setting in items(settings): { name: setting.key, value: string(setting.value) }]
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUri
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: { name: 'python', version: '3.11' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyInstances == 0 ? [] : [{ name: 'durable', instanceCount: alwaysReadyInstances }]
      }
      siteUpdateStrategy: { type: siteUpdateStrategy }
    }
  }
}

resource noPublishingPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

resource metrics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: app
  properties: {
    workspaceId: workspaceId
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

// Outputs

@description('Name of the function app. Deploy the package to it.')
output name string = app.name

@description('Base URL of the API, without a trailing slash.')
output uri string = 'https://${app.properties.defaultHostName}'
