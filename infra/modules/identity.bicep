metadata name = 'Identity'
metadata description = 'The managed identity of the app. The app uses it to access storage, Microsoft Graph and Partner Center. It has no secret.'

// Parameters

@description('Required. Name of the user-assigned identity.')
@minLength(3)
@maxLength(128)
param name string

@description('Required. Region for the identity.')
param location string

@description('Required. Tags for the identity.')
param tags object

// Resources

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

// Outputs

@description('Resource ID of the identity, for the function app.')
output id string = identity.id

@description('Client ID of the identity. The app uses it to request tokens.')
output clientId string = identity.properties.clientId

@description('Object ID of the identity, for role assignments and the Graph permission.')
output principalId string = identity.properties.principalId
