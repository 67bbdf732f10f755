metadata name = 'Private endpoints'
metadata description = 'Private endpoints of both storage accounts, and the private DNS zones that resolve their names in the network.'

// Parameters

@description('Required. Prefix for the names of the endpoints.')
@maxLength(40)
param namePrefix string

@description('Required. Resource ID of the subnet for the endpoints.')
param subnetId string

@description('Required. Resource ID of the network to which new DNS zones are linked. It is not used with existing zones.')
param networkId string

@description('Required. Resource ID of the resource group that contains the private DNS zones. If the value is an empty string, the module creates zones.')
param existingDnsZoneGroupId string

@description('Required. Resource ID of the storage account for the Functions host.')
param hostAccountId string

@description('Required. Resource ID of the landing account.')
param landingAccountId string

@description('Required. Services of the landing account for which endpoints are created: blob and table for the app, and dfs for clients that read folders. Use an empty array if the account already has endpoints.')
param landingServices array

@description('Required. Region for the endpoints.')
param location string

@description('Required. Tags for all resources.')
param tags object

// Variables

var host = [for service in ['blob', 'queue', 'table']: { name: 'host-${service}', service: service, account: hostAccountId }]
var landing = [for service in landingServices: { name: 'landing-${service}', service: service, account: landingAccountId }]
var endpoints = concat(host, landing)
var services = union(['blob', 'queue', 'table'], landingServices)
var zoneNames = [for service in services: 'privatelink.${service}.${environment().suffixes.storage}']
var madeHere = empty(existingDnsZoneGroupId)
var zonesToMake = madeHere ? zoneNames : []
var zoneSubscriptionId = madeHere ? subscription().subscriptionId : split(existingDnsZoneGroupId, '/')[2]
var zoneGroup = madeHere ? resourceGroup().name : split(existingDnsZoneGroupId, '/')[4]

// Resources

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for zoneName in zonesToMake: {
  name: zoneName
  location: 'global'
  tags: tags
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (zoneName, i) in zonesToMake: {
  parent: zones[i]
  name: 'to-app-network'
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: { id: networkId }
  }
}]

resource privateEndpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [for endpoint in endpoints: {
  name: '${namePrefix}${endpoint.name}'
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      {
        name: endpoint.name
        properties: {
          privateLinkServiceId: endpoint.account
          groupIds: [endpoint.service]
        }
      }
    ]
  }
}]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [for (endpoint, i) in endpoints: {
  parent: privateEndpoints[i]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: endpoint.service
        properties: {
          privateDnsZoneId: resourceId(zoneSubscriptionId, zoneGroup, 'Microsoft.Network/privateDnsZones', 'privatelink.${endpoint.service}.${environment().suffixes.storage}')
        }
      }
    ]
  }
  dependsOn: [zones]
}]
